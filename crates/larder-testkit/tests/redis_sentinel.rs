//! The sentinels of the test kit make another server the master when the old one dies, stands still, or on demand.

use std::time::Duration;

use larder_testkit::redis::{Connection, SentinelSet, Server, ServerOptions, or_skip};

/// Writes a value to the master and reads it from a settled replica.
fn write(set: &SentinelSet, value: &str) {
    set.master().command(&["SET", "key", value]).expect("the master takes writes");
    set.wait_until_settled();
    let replicas: Vec<&Server> = set.servers().iter().filter(|server| server.port() != set.master_port() && server.is_up()).collect();
    assert!(!replicas.is_empty());
    replicas.iter().for_each(|replica| assert_eq!(replica.command(&["GET", "key"]).expect("an answer").text(), value));
}

fn read(set: &SentinelSet) -> String {
    set.master().command(&["GET", "key"]).expect("the master answers").text()
}

#[test]
fn the_sentinels_fail_over_on_demand_and_for_a_death_and_for_a_pause() {
    let Some(set) = or_skip(SentinelSet::start(ServerOptions::default())) else { return };
    assert_eq!(set.master_port(), set.servers()[0].port());
    write(&set, "one");

    let first = set.master_port();
    let second = set.failover();
    assert_ne!(first, second);
    assert_eq!((set.master_port(), read(&set).as_str()), (second, "one"));
    write(&set, "two");

    assert_eq!(set.kill_master(), second);
    set.wait_until_settled();
    let third = set.master_port();
    assert_ne!(third, second);
    assert_eq!(read(&set), "two", "its replica had it");
    write(&set, "three");
    set.restart_dead();
    set.wait_until_settled();
    assert_eq!(set.servers().iter().filter(|server| server.is_up()).count(), 3);
    assert_eq!(set.master_port(), third, "who was dead comes back as a replica");

    assert_eq!(set.pause_master(), third);
    set.wait_until_settled();
    assert_ne!(set.master_port(), third);
    write(&set, "four");
    set.resume_paused();
    set.wait_until_settled();
    let woken = set.servers().iter().find(|server| server.port() == third).expect("it is one of them");
    assert_eq!(woken.info("role").as_deref(), Some("slave"));
    assert_eq!(read(&set), "four");
}

#[test]
fn sentinels_are_found_by_address_and_outlive_one_of_them() {
    let options = ServerOptions { password: Some("secret".to_owned()), ..ServerOptions::default() };
    let Some(set) = or_skip(SentinelSet::start(options)) else { return };
    for address in set.sentinel_addresses() {
        let mut sentinel = Connection::open(address, Duration::from_secs(5)).expect("a connection");
        let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SentinelSet::MASTER_NAME];
        assert_eq!(sentinel.command(&words).expect("an answer").text(), format!("127.0.0.1\n{}", set.master_port()));
    }
    set.sentinels()[0].kill();
    let old = set.kill_master();
    set.wait_until_settled();
    assert_ne!(set.master_port(), old);
    set.restart_dead();
    set.wait_until_settled();
    write(&set, "all are here");
}
