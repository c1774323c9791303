//! The cluster of the test kit moves its slots, and its nodes take each other's places.

use larder_testkit::redis::{Cluster, CommandError, SLOTS, Server, ServerOptions, or_skip, slot_of};

/// The keys that the tests use, which all have one slot.
const KEYS: [&str; 3] = ["{tag}.one", "{tag}.two", "{tag}.three"];

fn slot() -> u16 {
    slot_of(b"tag")
}

fn write(owner: &Server, value: &str) {
    KEYS.iter().for_each(|key| drop(owner.command(&["SET", key, value]).expect("the owner takes writes")));
}

fn read(owner: &Server) -> [String; 3] {
    KEYS.map(|key| owner.command(&["GET", key]).expect("the owner answers").text())
}

/// What the server says instead of an answer.
fn refusal(server: &Server, words: &[&str]) -> String {
    match server.command(words) {
        Err(CommandError::Refused(error)) => error,
        other => panic!("{words:?} was not refused: {other:?}"),
    }
}

#[test]
fn slots_move_with_their_keys_while_both_nodes_serve() {
    let Some(cluster) = or_skip(Cluster::start(ServerOptions::default())) else { return };
    let nodes = cluster.nodes();
    assert_eq!([0, SLOTS / 2, SLOTS - 1].map(|slot| cluster.owner_of(slot)), [0, 1, 2]);
    assert_eq!([0, SLOTS / 2, SLOTS - 1].map(|slot| cluster.replicas_of(slot)), [[3], [4], [5]]);
    for key in ["foo", "{tag}.one", "a{}b", ""] {
        let asked = nodes[0].command(&["CLUSTER", "KEYSLOT", key]).expect("an answer").number();
        assert_eq!(asked, Some(slot_of(key.as_bytes()).into()), "{key:?}");
    }
    let from = cluster.owner_of(slot());
    let to = (from + 1) % 3;
    write(&nodes[from], "here");
    assert_eq!(refusal(&nodes[to], &["GET", KEYS[0]]), format!("MOVED {} 127.0.0.1:{}", slot(), nodes[from].port()));

    // In between, the old owner answers for what it still has, and sends on for what it has no longer.
    let migration = cluster.begin_migration(slot(), to);
    assert_eq!(read(&nodes[from]).map(|value| value == "here"), [true; 3]);
    assert_eq!(migration.move_keys(2), 2);
    let refusals = KEYS.iter().filter(|key| nodes[from].command(&["GET", key]).is_err()).count();
    assert_eq!(refusals, 2);
    assert_eq!(refusal(&nodes[from], &["GET", "{tag}.none"]), format!("ASK {} 127.0.0.1:{}", slot(), nodes[to].port()));
    assert_eq!((migration.move_keys(100), migration.move_keys(100)), (1, 0));
    migration.finish();

    assert_eq!(cluster.owner_of_key(b"{tag}.one").port(), nodes[to].port());
    assert_eq!(read(&nodes[to]).map(|value| value == "here"), [true; 3]);
    assert!(refusal(&nodes[from], &["GET", KEYS[0]]).starts_with("MOVED"));
    cluster.migrate_slot(slot(), from);
    assert_eq!(cluster.owner_of(slot()), from);
    assert_eq!(read(&nodes[from]).map(|value| value == "here"), [true; 3]);
}

#[test]
fn a_replica_takes_over_on_demand_and_for_a_death() {
    // As a user's would be: with a password, which the nodes need among themselves, too.
    let options = ServerOptions { password: Some("secret".to_owned()), ..ServerOptions::default() };
    let Some(cluster) = or_skip(Cluster::start(options)) else { return };
    let nodes = cluster.nodes();
    let first = cluster.owner_of(slot());
    write(&nodes[first], "kept");
    let second = cluster.failover(slot());
    assert_eq!((second, cluster.owner_of(slot())), (first + 3, second));
    assert_eq!(read(&nodes[second]).map(|value| value == "kept"), [true; 3]);

    cluster.wait_until_settled();
    assert_eq!(cluster.kill_owner(slot()), second);
    cluster.wait_until_settled();
    assert_eq!(cluster.owner_of(slot()), first);
    assert_eq!(read(&nodes[first]).map(|value| value == "kept"), [true; 3]);
    assert!(cluster.replicas_of(slot()).is_empty());

    cluster.restart_dead();
    cluster.wait_until_settled();
    assert_eq!(cluster.replicas_of(slot()), [second]);
    let to = (first + 1) % 3;
    cluster.migrate_slot(slot(), to);
    assert_eq!(read(&nodes[to]).map(|value| value == "kept"), [true; 3]);

    // And one that only stands still, which then has to learn that it is no longer the owner.
    nodes[to].pause();
    cluster.wait_until_settled();
    assert_eq!(cluster.owner_of(slot()), to + 3);
    cluster.resume_paused();
    cluster.wait_until_settled();
    assert_eq!(cluster.replicas_of(slot()), [to]);
}
