//! Every command of the table.

use larder::access::Operation::{self, Admin, Delete, Emit, Invalidate, Metrics, Read, Write};
use larder_server::resp::table::COMMANDS;

use super::{Guarded, ask, refusal};

/// What a command is to need, said once more and in other words than the server says it.
enum Expected {
    Nothing,
    Somebody,
    Server(Operation),
    Keys(&'static [Operation]),
    Anything(Operation),
    Everything(Operation),
}

/// What a command needs, and a call of it, where `K` is a key and `K..` are as many as there are.
fn cell(name: &str) -> Option<(Expected, &'static str)> {
    use Expected::{Anything, Everything, Keys, Nothing, Server, Somebody};
    const TOLD: &[Operation] = &[Read, Write];
    Some(match name {
        "auth" => (Nothing, "AUTH x y z"),
        "hello" => (Nothing, "HELLO x"),
        "quit" => (Nothing, "QUIT"),
        "reset" => (Nothing, "RESET"),
        "acl|whoami" => (Somebody, "ACL WHOAMI"),
        "acl|list" => (Server(Admin), "ACL LIST"),
        "acl" => (Somebody, "ACL"),
        "client" => (Somebody, "CLIENT"),
        "client|caching" => (Somebody, "CLIENT CACHING YES"),
        "client|getname" => (Somebody, "CLIENT GETNAME"),
        "client|getredir" => (Somebody, "CLIENT GETREDIR"),
        "client|id" => (Somebody, "CLIENT ID"),
        "client|info" => (Somebody, "CLIENT INFO"),
        "client|kill" => (Server(Admin), "CLIENT KILL ID 999999"),
        "client|list" => (Server(Admin), "CLIENT LIST"),
        "client|no-evict" => (Somebody, "CLIENT NO-EVICT ON"),
        "client|no-touch" => (Somebody, "CLIENT NO-TOUCH OFF"),
        "client|reply" => (Somebody, "CLIENT REPLY ON"),
        "client|setinfo" => (Somebody, "CLIENT SETINFO LIB-NAME x"),
        "client|setname" => (Somebody, "CLIENT SETNAME x"),
        "client|tracking" => (Somebody, "CLIENT TRACKING OFF"),
        "client|trackinginfo" => (Somebody, "CLIENT TRACKINGINFO"),
        "echo" => (Somebody, "ECHO x"),
        "ping" => (Somebody, "PING"),
        "select" => (Somebody, "SELECT 0"),
        "time" => (Somebody, "TIME"),
        "append" => (Keys(TOLD), "APPEND K 1"),
        "decr" => (Keys(TOLD), "DECR K"),
        "decrby" => (Keys(TOLD), "DECRBY K 1"),
        "incr" => (Keys(TOLD), "INCR K"),
        "incrby" => (Keys(TOLD), "INCRBY K 1"),
        "incrbyfloat" => (Keys(TOLD), "INCRBYFLOAT K 1"),
        "getset" => (Keys(TOLD), "GETSET K 1"),
        "setnx" => (Keys(TOLD), "SETNX K 1"),
        "get" => (Keys(&[Read]), "GET K"),
        "getrange" => (Keys(&[Read]), "GETRANGE K 0 1"),
        "mget" => (Keys(&[Read]), "MGET K.."),
        "strlen" => (Keys(&[Read]), "STRLEN K"),
        "getdel" => (Keys(&[Read, Delete]), "GETDEL K"),
        "getex" => (Keys(&[Read]), "GETEX K"),
        "set" => (Keys(&[Write]), "SET K 1"),
        "setex" => (Keys(&[Write]), "SETEX K 10 1"),
        "psetex" => (Keys(&[Write]), "PSETEX K 10000 1"),
        "mset" => (Keys(&[Write]), "MSET K 1"),
        "del" => (Keys(&[Delete]), "DEL K.."),
        "unlink" => (Keys(&[Delete]), "UNLINK K.."),
        "exists" => (Keys(&[Read]), "EXISTS K.."),
        "touch" => (Keys(&[Read]), "TOUCH K.."),
        "type" => (Keys(&[Read]), "TYPE K"),
        "expire" => (Keys(TOLD), "EXPIRE K 100"),
        "pexpire" => (Keys(TOLD), "PEXPIRE K 100000"),
        "expireat" => (Keys(TOLD), "EXPIREAT K 9999999999"),
        "pexpireat" => (Keys(TOLD), "PEXPIREAT K 9999999999999"),
        "persist" => (Keys(TOLD), "PERSIST K"),
        "ttl" => (Keys(&[Read]), "TTL K"),
        "pttl" => (Keys(&[Read]), "PTTL K"),
        "expiretime" => (Keys(&[Read]), "EXPIRETIME K"),
        "pexpiretime" => (Keys(&[Read]), "PEXPIRETIME K"),
        "object" => (Somebody, "OBJECT"),
        "object|encoding" => (Keys(&[Read]), "OBJECT ENCODING K"),
        "object|freq" => (Keys(&[Read]), "OBJECT FREQ K"),
        "object|idletime" => (Keys(&[Read]), "OBJECT IDLETIME K"),
        "memory" => (Somebody, "MEMORY"),
        "memory|usage" => (Keys(&[Read]), "MEMORY USAGE K"),
        "keys" => (Anything(Read), "KEYS *"),
        "scan" => (Anything(Read), "SCAN 0"),
        "randomkey" => (Anything(Read), "RANDOMKEY"),
        "dbsize" => (Anything(Read), "DBSIZE"),
        "command" => (Somebody, "COMMAND"),
        "command|count" => (Somebody, "COMMAND COUNT"),
        "command|docs" => (Somebody, "COMMAND DOCS get"),
        "command|getkeys" => (Somebody, "COMMAND GETKEYS get x"),
        "command|info" => (Somebody, "COMMAND INFO get"),
        "command|list" => (Somebody, "COMMAND LIST"),
        "config" => (Somebody, "CONFIG"),
        "config|get" => (Server(Admin), "CONFIG GET save"),
        "config|set" => (Server(Admin), "CONFIG SET timeout 0"),
        "flushall" => (Everything(Invalidate), "FLUSHALL"),
        "flushdb" => (Everything(Invalidate), "FLUSHDB"),
        "info" => (Server(Metrics), "INFO"),
        "psubscribe" => (Anything(Read), "PSUBSCRIBE x*"),
        "subscribe" => (Keys(&[Read]), "SUBSCRIBE K"),
        "punsubscribe" => (Somebody, "PUNSUBSCRIBE"),
        "unsubscribe" => (Somebody, "UNSUBSCRIBE"),
        "publish" => (Keys(&[Write]), "PUBLISH K x"),
        "pubsub" => (Somebody, "PUBSUB"),
        "pubsub|channels" => (Anything(Read), "PUBSUB CHANNELS"),
        "pubsub|numpat" => (Somebody, "PUBSUB NUMPAT"),
        "pubsub|numsub" => (Keys(&[Read]), "PUBSUB NUMSUB K.."),
        "discard" => (Somebody, "DISCARD"),
        "exec" => (Somebody, "EXEC"),
        "multi" => (Somebody, "MULTI"),
        "unwatch" => (Somebody, "UNWATCH"),
        "watch" => (Keys(&[Read]), "WATCH K.."),
        "larder.emit" => (Server(Emit), "LARDER.EMIT x {}"),
        "larder.explain" => (Keys(&[Read]), "LARDER.EXPLAIN K"),
        "larder.fill" => (Keys(&[Write]), "LARDER.FILL K 0 1"),
        "larder.get" => (Keys(&[Read]), "LARDER.GET K"),
        "larder.invalidate" => (Keys(&[Invalidate]), "LARDER.INVALIDATE KEY K"),
        "larder.set" => (Keys(&[Write]), "LARDER.SET K 1"),
        _ => return None,
    })
}

#[test]
fn every_command_is_decided_by_the_rights_over_what_it_names() {
    let guarded = Guarded::start();
    let mut asked = 0;
    for command in COMMANDS.iter().flat_map(|command| std::iter::once(command).chain(command.subcommands)) {
        let name = command.name;
        let Some((expected, template)) = cell(name) else { panic!("{name} is not in the matrix") };
        for keys in [&["own:k"][..], &["foreign:k"], &["own:k", "foreign:k"]] {
            let is_about_keys = matches!(expected, Expected::Keys(_));
            if keys.len() > 1 && !template.contains("K..") || keys[0] != "own:k" && !is_about_keys {
                continue;
            }
            let word = |word: &str| match word {
                "K.." => keys.join(" "),
                "K" => keys[0].to_owned(),
                word => word.to_owned(),
            };
            let call = template.split(' ').map(word).collect::<Vec<_>>().join(" ");
            let nobody = ask(&mut guarded.stranger(), &call);
            let needs_nobody = matches!(expected, Expected::Nothing) || command.flags.is_empty() && template.split(' ').count() == 1;
            assert!(refusal(&nobody) == Some("NOAUTH") || needs_nobody, "{call} of nobody: {nobody:?}");
            for who in &guarded.people {
                let allowed = match &expected {
                    Expected::Nothing | Expected::Somebody => true,
                    Expected::Server(operation) | Expected::Everything(operation) => who.operations.has(*operation) && who.everywhere,
                    Expected::Keys(needs) => needs.iter().all(|need| who.may(*need, keys)),
                    Expected::Anything(operation) => who.operations.has(*operation),
                };
                let told = ask(&mut guarded.client(&who.name), &call);
                assert_eq!(refusal(&told) != Some("NOPERM"), allowed, "{call} of {}: {told:?}", who.name);
                assert_ne!(refusal(&told), Some("NOAUTH"), "{call} of {}", who.name);
                // The same, where it would be queued.
                let mut client = guarded.client(&who.name);
                ask(&mut client, "MULTI");
                let queued = ask(&mut client, &call);
                assert!(allowed || refusal(&queued) == Some("NOPERM"), "{call} of {} in MULTI: {queued:?}", who.name);
                if !allowed {
                    assert_eq!(refusal(&ask(&mut client, "EXEC")), Some("EXECABORT"), "{call} of {}", who.name);
                }
                asked += 1;
            }
        }
    }
    assert!(asked > 1_000, "{asked}");
}

#[test]
fn options_that_tell_or_change_more_need_more() {
    let guarded = Guarded::start();
    for (call, client, service) in [
        ("SET own:k 1 NX", true, false),
        ("SET own:k 1 XX GET", true, false),
        ("GETEX own:k EX 100", true, false),
        ("GETEX own:k", false, false),
        ("LARDER.SET own:k 1 TAG t", true, false),
    ] {
        let refused = |who: &str| refusal(&ask(&mut guarded.client(who), call)) == Some("NOPERM");
        assert_eq!((refused("client"), refused("service")), (client, service), "{call}");
    }
    for (call, is_refused) in [
        ("LARDER.INVALIDATE PATTERN own:**", false),
        ("LARDER.INVALIDATE PATTERN **", true),
        ("LARDER.INVALIDATE TAG t", true),
        ("LARDER.INVALIDATE NAMESPACE foreign", true),
        ("LARDER.INVALIDATE KEY own:k ALL", true),
        ("LARDER.INVALIDATE KEY own:*", false),
    ] {
        let told = ask(&mut guarded.client("invalidator.own"), call);
        assert_eq!(refusal(&told) == Some("NOPERM"), is_refused, "{call}: {told:?}");
    }
}

#[test]
fn what_is_listed_and_pushed_is_what_may_be_read() {
    let guarded = Guarded::start();
    let mut admin = guarded.client("admin");
    for number in 0..20 {
        ask(&mut admin, &format!("MSET own:{number} 1 foreign:{number} 1"));
    }
    let mut client = guarded.client("client.own");
    let keys = ask(&mut client, "KEYS *");
    let keys: Vec<_> = keys.parts().unwrap().iter().map(|key| key.bytes().unwrap().to_vec()).collect();
    assert!(keys.len() == 20 && keys.iter().all(|key| key.starts_with(b"own:")), "{keys:?}");
    assert_eq!(ask(&mut client, "DBSIZE").integer(), Some(20));
    let (mut cursor, mut found) = ("0".to_owned(), 0);
    loop {
        let page = ask(&mut client, &format!("SCAN {cursor}"));
        let [next, keys] = page.parts().unwrap() else { panic!("{page:?}") };
        assert!(keys.parts().unwrap().iter().all(|key| key.bytes().unwrap().starts_with(b"own:")));
        found += keys.parts().unwrap().len();
        cursor = String::from_utf8(next.bytes().unwrap().to_vec()).unwrap();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(found, 20);
    // A listing that somebody else has begun tells no more than one's own.
    let begun = ask(&mut admin, "SCAN 0 COUNT 1");
    let cursor = String::from_utf8(begun.parts().unwrap()[0].bytes().unwrap().to_vec()).unwrap();
    let stolen = ask(&mut client, &format!("SCAN {cursor} COUNT 1000"));
    assert!(stolen.parts().unwrap()[1].parts().unwrap().iter().all(|key| key.bytes().unwrap().starts_with(b"own:")), "{stolen:?}");
    for _ in 0..20 {
        assert!(ask(&mut client, "RANDOMKEY").bytes().unwrap().starts_with(b"own:"));
    }

    // Events of keys, and what is said of what was tracked: the first that comes is of an own key, though others came before.
    let mut listening = guarded.client("client.own");
    ask(&mut listening, "HELLO 3");
    for call in ["PSUBSCRIBE __key*@0__:*", "SUBSCRIBE __keyevent@0__:set"] {
        assert_eq!(ask(&mut listening, call).error(), None);
    }
    let mut tracked = guarded.client("client.own");
    ask(&mut tracked, "HELLO 3");
    ask(&mut tracked, "CLIENT TRACKING ON BCAST");
    ask(&mut admin, "SET foreign:1 2");
    ask(&mut admin, "SET own:1 2");
    for client in [&mut listening, &mut tracked] {
        let push = client.reply().expect("it is told").raw;
        let text = push.escape_ascii().to_string();
        assert!(text.contains("own:1") && !text.contains("foreign"), "{text}");
    }
    assert_eq!(refusal(&ask(&mut admin, "PUBLISH __keyspace@0__:own:1 del")), Some("NOPERM"), "nobody else speaks there");
    let lines = ask(&mut admin, "ACL LIST");
    assert_eq!(lines.parts().unwrap().len(), guarded.people.len());
    assert_eq!(ask(&mut client, "ACL WHOAMI").bytes(), Some(b"client.own".as_slice()));
    let list = ask(&mut admin, "CLIENT LIST");
    assert!(format!("{list:?}").len() > 100 && !format!("{list:?}").contains("ldr_"));
}
