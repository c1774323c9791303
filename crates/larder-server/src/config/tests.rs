//! The configuration as a whole: every fault at once with its place, the order of the layers, and what is shown.

use proptest::prelude::*;

use super::*;

mod access;
mod backup;

fn read(text: &str) -> Result<Config, Faults> {
    Config::read(Some((Path::new("larder.toml"), text)), [], &[])
}

fn faults(text: &str) -> Vec<String> {
    read(text).expect_err("it has faults").0.iter().map(Fault::to_string).collect()
}

fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

const WRONG: &str = r#"memroy = "1 GiB"
disk = "lots"
durability = "sometimes"

[http]
listen = 7070
requests_max = 0
colour = "blue"

[namespaces.features]
ttl = "0s"
jitter = 2
refresh_ahead = 0.1
tags = ["symbol:{one}", "model:{3}"]
compression = { codec = "gzip", levle = 3 }

[namespaces."a:b"]
ttl = "5m"

[namespaces.plain]
memory = "1 KiB"
codec = 3
"#;

#[test]
fn every_fault_is_told_at_once_with_its_place() {
    let expected = [
        "larder.toml:1:1: memroy: there is no such setting; did you mean \"memory\"?",
        "larder.toml:2:8: disk: found \"lots\", expected a size such as \"256 MiB\" or a number of bytes, at least 1 MiB",
        "larder.toml:3:14: durability: found \"sometimes\", expected \"os\" or \"fsync\"",
        "larder.toml:6:10: http.listen: found the number 7070, expected an address with its port such as \"127.0.0.1:7070\"",
        "larder.toml:7:16: http.requests_max: found the number 0, expected a whole number from 1 to 4294967295",
        "larder.toml:8:1: http.colour: there is no such setting; expected one of listen, tls, hosts, body_bytes_max, head_timeout, body_timeout, request_timeout, requests_max, connections_max, drain",
        "larder.toml:11:1: namespaces.features.ttl: found \"0s\"; a time to live is from 1 ms to 100 years, not 0ns; for one without end, give none",
        "larder.toml:12:10: namespaces.features.jitter: found the number 2, expected a share from 0 to 1",
        "larder.toml:13:1: namespaces.features.refresh_ahead: found 0.1; refresh_ahead needs a ttl to be ahead of",
        "larder.toml:14:1: namespaces.features.tags: found [\"symbol:{one}\", \"model:{3}\"]; the tag template \"symbol:{one}\" has something other than a segment's number in { }",
        "larder.toml:15:25: namespaces.features.compression.codec: found \"gzip\", expected \"zstd\" or \"lz4\"",
        "larder.toml:15:33: namespaces.features.compression.levle: there is no such setting; expected one of codec, above",
        "larder.toml:17:13: namespaces: found the name \"a:b\", expected 1 to 128 bytes of letters, digits, '_', '-' and '.'",
        "larder.toml:21:10: namespaces.plain.memory: found \"1 KiB\", expected a size such as \"256 MiB\" or a number of bytes, at least 64 KiB",
        "larder.toml:22:9: namespaces.plain.codec: found the number 3, expected \"json\" or \"bytes\" or \"postcard\" or \"messagepack\"",
    ];
    let found = faults(WRONG);
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn history_is_beside_the_entries_and_longer_levels_are_kept_longer() {
    let config = read("data = \"d\"\n[redis]\ninstance = \"a\"\n").expect("it is right");
    let history = config.history.expect("it is kept unless told otherwise");
    assert_eq!((history.file, history.name.as_str()), (Some(Path::new("d").join("history.db")), "a"));
    assert_eq!(history.retention, crate::history::Retention::default());
    assert_eq!(read("").expect("it is right").history.expect("it is kept").file, None, "in memory");
    assert_eq!(read("[history]\nenabled = false\n").expect("it is right").history, None);
    let text = "[history]\nfile = \"h.db\"\nhours = \"20d\"\ninstance = \"b\"\n";
    let history = read(text).expect("it is right").history.expect("it is kept");
    assert_eq!((history.file, history.name.as_str()), (Some("h.db".into()), "b"));
    let told = faults("[history]\nminutes = \"5m\"\nhours = \"4w\"\ndays = \"2w\"\ninstance = \"\\n\"\n");
    let expected = [
        "larder.toml:4:1: history.days: found \"2w\", expected at least as long as history.hours (4w), from which it is made up",
        "larder.toml:2:1: history.minutes: found \"5m\", expected at least 1h",
        "larder.toml:5:1: history.instance: found \"\\n\", expected a name of 1 to 128 bytes",
    ];
    expected.iter().for_each(|expected| assert!(told.contains(&(*expected).to_owned()), "{told:#?}"));
    assert_eq!(told.len(), expected.len());
}

#[test]
fn doors_are_guarded_as_the_sections_say() {
    let files = tempfile::tempdir().expect("temporary files can be written");
    let authority = larder_testkit::certificates::Authority::new();
    let signed = authority.server();
    for (name, pem) in [("c", &signed.certificate), ("k", &signed.key), ("a", &authority.pem().to_owned())] {
        std::fs::write(files.path().join(name), pem).expect("it can be written");
    }
    let path = |name: &str| files.path().join(name).display().to_string();
    let pair = format!("[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n", path("c"), path("k"));
    let guards = read(&format!("{pair}[resp]\ntls = false\n[http]\nhosts = [\"cache.example\"]\n")).expect("it is right").guards;
    assert!(guards.of_http().is_some() && guards.of_resp().is_none() && guards.hosts == ["cache.example"]);
    assert!(read("").expect("it is right").guards.tls.is_none());
    let required = read(&format!("{pair}clients = \"required\"\nclient_authority = \"{}\"\n", path("a")));
    assert!(required.expect("it is right").guards.tls.is_some());
    let cases = [
        (format!("{pair}clients = \"required\"\n"), 4, "tls.clients: found \"required\"; expected client_authority beside it"),
        (format!("{pair}client_authority = \"{}\"\n", path("a")), 4, "it has no use while clients is \"off\""),
        (format!("[tls]\nkey = \"{}\"\n", path("k")), 2, "expected certificate beside it"),
        (format!("{pair}handshake_timeout = \"0s\"\n"), 4, "expected longer than no time"),
        (pair.replace("key = ", "key = \"absent\" # "), 3, "tls.key: absent cannot be read"),
        (pair.replace("/k\"", "/c\""), 3, "has no private key in PEM form in it"),
        ("[http]\nlisten = \"0.0.0.0:0\"\n".to_owned(), 2, "without access control and TLS"),
        (format!("{pair}[resp]\nlisten = \"[::]:0\"\n"), 5, "resp.listen is beyond this machine ([::]:0), without access control"),
        ("[http]\nhosts = [\"a:1\"]\n".to_owned(), 2, "expected the name of a host without a port"),
    ];
    for (text, line, words) in cases {
        let told = faults(&text);
        assert!(told.len() == 1 && told[0].contains(words), "{words}: {told:#?}");
        assert!(told[0].starts_with(&format!("larder.toml:{line}:")), "{line}: {told:#?}");
    }
    assert!(read("insecure = true\n[http]\nlisten = \"0.0.0.0:0\"\n").is_ok());
}

#[test]
fn the_audit_log_is_off_unless_it_has_a_level_and_a_place() {
    assert!(read("data = \"d\"\n").is_ok_and(|config| config.audit.is_none() && config.audit_folder == Some(Path::new("d").join("audit"))));
    let config =
        read("data = \"d\"\n[audit]\nlevel = \"admin\"\non_failure = \"warn\"\nfolder = \"a\"\nkeep = \"30d\"\n").expect("it is right");
    let audit = config.audit.expect("it is on");
    assert_eq!(
        (audit.folder.as_path(), audit.level, audit.on_failure),
        (Path::new("a"), crate::audit::Level::Admin, crate::audit::OnFailure::Warn)
    );
    assert!(audit.is_durable && audit.name_secret.is_none() && audit.keep == Duration::from_secs(30 * 86_400));
    assert_eq!(faults("[audit]\nlevel = \"all\"\n"), ["larder.toml:2:1: audit.level: found \"all\"; expected folder beside it, or data"]);
    assert!(faults("[audit]\nhash_names = true\n")[0].contains("expected secret beside it"));
    let text = "data = \"d\"\n[audit]\nlevel = \"changes\"\nhash_names = true\nsecret = \"env:S\"\n";
    let with = |secret: &str| Config::read(Some((Path::new("larder.toml"), text)), environment(&[("S", secret)]), &[]);
    assert_eq!(with("0123456789abcdef").expect("it is right").audit.expect("it is on").name_secret, Some(b"0123456789abcdef".to_vec()));
    let short = with("hunter2").expect_err("it is short").to_string();
    assert!(short.contains("it has 7 bytes, and needs 16") && !short.contains("hunter2"), "{short}");
}

#[test]
fn webhooks_have_their_secrets_from_elsewhere() {
    let whsec = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let text = "[events]\nwebhook_secrets = [\"env:NEW\", \"env:OLD\"]\nwebhook_origins = [\"*\"]\nwebhook_rate = 60\n";
    let with = |text: &str, variables: &[(&str, &str)]| Config::read(Some((Path::new("larder.toml"), text)), environment(variables), &[]);
    let config = with(text, &[("NEW", whsec), ("OLD", "whsec_AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB")]).expect("it is right");
    let secret = crate::webhook::Secret::parse(whsec).expect("it is one");
    assert_eq!((config.webhooks.secrets.len(), config.webhooks.rate), (2, Some(60)));
    assert!(config.webhooks.secrets[0] == secret && config.webhooks.origins == ["*"]);
    assert!(show(&config).contains("webhook_secrets = [\"env:NEW\", \"env:OLD\"]") && !format!("{config:?}").contains("AAAA"));
    let told = |text: &str| with(text, &[("SHORT", "whsec_AAAA"), ("BARE", "hunter2")]).expect_err("it is wrong").0;
    let faults = told("[events]\nwebhook_secrets = [\"env:SHORT\", \"env:NONE\", \"env:BARE\"]\n");
    let faults: Vec<String> = faults.iter().map(Fault::to_string).collect();
    let starts = "larder.toml:2:1: events.webhook_secrets: found \"env:";
    assert_eq!(faults.len(), 3, "{faults:#?}");
    assert!(faults[0].starts_with(&format!("{starts}SHORT\"; it has 3 bytes")), "{faults:#?}");
    assert!(faults[1].starts_with(&format!("{starts}NONE\"; the environment has no variable NONE")), "{faults:#?}");
    assert!(faults[2].starts_with(&format!("{starts}BARE\"; it does not begin with whsec_")) && !faults[2].contains("hunter2"));
    for bad in [format!("[\"{whsec}\"]"), format!("\"{whsec}\""), "[]".to_owned(), "[1]".to_owned()] {
        let fault = told(&format!("[events]\nwebhook_secrets = {bad}\n")).remove(0).to_string();
        assert!(fault.contains("events.webhook_secrets: found") && !fault.contains("AAAA"), "{fault}");
    }
    let variable = [("LARDER_EVENTS_WEBHOOK_SECRETS", "env:NEW, env:OLD"), ("NEW", whsec), ("OLD", whsec)];
    assert_eq!(with("", &variable).expect("it is right").webhooks.secrets.len(), 2);
}

#[test]
fn broken_toml_is_told_with_its_place_and_hides_nothing_else() {
    let found = faults("memory = \ndisk = \"lots\"\n");
    assert!(found[0].starts_with("larder.toml:1:") && found[0].contains("this is not TOML"), "{found:#?}");
    assert!(found.iter().any(|fault| fault.starts_with("larder.toml:2:8: disk")), "{found:#?}");
}

#[test]
fn columns_count_characters() {
    assert!(faults("data = \"\u{e4}\u{f6}\u{fc}\"\nhttp = { drain = \"\u{e4}\", x = 1 }")[1].starts_with("larder.toml:2:23: http.x"));
}

#[test]
fn sections_that_are_none_are_faults() {
    assert_eq!(faults("http = 1"), ["larder.toml:1:8: http: found the number 1, expected a section [http]"]);
    assert_eq!(faults("namespaces = 1"), ["larder.toml:1:14: namespaces: found the number 1, expected a section [namespaces]"]);
    assert_eq!(faults("[namespaces]\nfeatures = 1").len(), 1);
    assert_eq!(faults("[memory]\nx = 1").len(), 1);
    assert!(faults("[namespace.features]\nttl = \"5m\"")[0].ends_with("did you mean \"namespaces\"?"));
    assert!(faults("[namespaces.features]\ncompression = \"zstd\"")[0].ends_with("expected { codec = .., above = .. }"));
    assert!(faults("[default_namespace]\ncompression = { above = 5 }")[0].contains("codec = \"zstd\" or \"lz4\" beside it"));
}

#[test]
fn nothing_at_all_is_a_configuration() {
    let config = Config::read(None, [], &[]).expect("everything has a default");
    assert_eq!(config.data, None);
    assert_eq!((config.memory_bytes, config.disk_bytes, config.index_bytes), (256 << 20, 10 << 30, 16 << 20));
    assert_eq!((config.durability, config.put_durability), (Durability::Fsync, Durability::Os));
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:7070");
    assert_eq!(config.default_namespace, Policy::default(), "the defaults told here are those of larder");
    assert!(config.namespaces.is_empty());
}

#[test]
fn every_policy_setting_arrives() {
    let config = read(
        r#"
        [namespaces.features]
        ttl = "5m"
        jitter = 0.1
        sliding = true
        stale_while_revalidate = "30s"
        stale_if_error = "1h 30m"
        refresh_ahead = 0.2
        negative_ttl = "10s"
        load_soft_timeout = "100ms"
        load_timeout = "5s"
        loads_max = 0x10
        value_bytes_max = 1_000_000
        codec = "messagepack"
        compression = { codec = "zstd", above = "2 KiB" }
        tags = ["symbol:{1}", "model:{3}"]
        memory = "64 MiB"
        backing = false
        mode = "strict"
        max_staleness = "300ms"
        one_load_in_fleet = "2s"
        "#,
    )
    .expect("it is right");
    let (ms, s) = (Duration::from_millis, Duration::from_secs);
    let expected = Policy::default()
        .ttl(s(300))
        .jitter(0.1)
        .sliding(true)
        .stale_while_revalidate(s(30))
        .stale_if_error(s(5_400))
        .refresh_ahead(0.2)
        .negative_ttl(s(10))
        .load_soft_timeout(ms(100))
        .load_timeout(s(5))
        .loads_max(16)
        .value_bytes_max(1_000_000)
        .codec(larder::Codec::MessagePack)
        .compress(larder::Compression::Zstd, 2048)
        .tag("symbol:{1}")
        .tag("model:{3}")
        .own_memory(64 << 20)
        .backing(false)
        .mode(larder::Mode::Strict)
        .max_staleness(ms(300))
        .one_load_in_fleet(s(2));
    assert_eq!(config.namespaces["features"], expected);
    assert_eq!(config.default_namespace, Policy::default());
}

#[test]
fn redis_is_described_and_its_secrets_stay_out_of_sight() {
    let folder = tempfile::tempdir().expect("temporary files can be written");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("it can be written");
        path.display().to_string()
    };
    let (password, certificate) = (file("password", "hunter2\n"), file("ca.pem", "-----BEGIN CERTIFICATE-----\n"));
    let text = format!(
        r#"
        [redis]
        url = "rediss://cache.local:6380/1"
        user = "ada"
        password = "file:{password}"
        prefix = "shop"
        certificate_authority = "{certificate}"
        client_certificate = "{certificate}"
        client_key = "{certificate}"
        connect_timeout = "1s"
        operation_timeout = "50ms"
        heartbeat = "100ms"
        queue_bytes = "1 MiB"
        write_queue_bytes = "2 MiB"
        stream_len = 1000
        replicas = 1
        instance = "a"
        mode = "strict"
        max_staleness = "500ms"
        "#
    );
    let config = read(&text).expect("it is right");
    let redis = config.redis.as_ref().expect("it is given");
    assert_eq!(redis.shown(), "rediss://cache.local:6380/1");
    let shown = show(&config);
    for part in ["password = \"file:", "mode = \"strict\"", "instance = \"a\"", "prefix = \"shop\""] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    // Whatever shows a configuration, shows no password.
    let variables = environment(&[("LARDER_REDIS_URL", "redis://ada:hunter2@cache.local"), ("SECRET", "redis://:hunter2@other.local")]);
    let from_environment = Config::read(None, variables.clone(), &[]).expect("the environment may hold a password");
    let flags = [FlagGiven { setting: "redis.url", flag: "--redis", text: "env:SECRET".to_owned() }];
    let from_reference = Config::read(None, variables, &flags).expect("so may a variable that is named");
    assert_eq!(from_environment.redis.as_ref().map(Redis::shown), Some("redis://ada:***@cache.local"));
    assert_eq!(from_reference.redis.as_ref().map(Redis::shown), Some("redis://:***@other.local"));
    for config in [&config, &from_environment, &from_reference] {
        for text in [show(config), show_json(config).to_string(), format!("{config:?}")] {
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
    assert!(read("").expect("it is right").redis.is_none());
}

#[test]
fn what_is_wrong_with_redis_is_told_at_once() {
    let text = r#"
data = "/var/lib/larder"

[redis]
url = "redis://ada:hunter2@127.0.0.1"
user = "ada"
prefxi = "shop"
heartbeat = 5
certificate_authority = "/no/such/file"
client_key = "/no/such/key"
stream_len = 1
mode = "careful"
"#;
    let found = faults(text);
    let expected = [
        "larder.toml:2:1: data: found \"/var/lib/larder\" together with redis.url (larder.toml:5:1); entries and the log are in Redis then,",
        "larder.toml:5:1: redis.url: found \"redis://ada:***@127.0.0.1\"; a password does not stand in a file or on a command line:",
        "larder.toml:6:1: redis.user: found \"ada\"; expected password beside it",
        "larder.toml:7:1: redis.prefxi: there is no such setting; did you mean \"prefix\"?",
        "larder.toml:8:13: redis.heartbeat: found the number 5, expected a time such as \"500ms\"",
        "larder.toml:9:1: redis.certificate_authority: found \"/no/such/file\"; it has no use at an address without TLS",
        "larder.toml:9:1: redis.certificate_authority: found \"/no/such/file\"; /no/such/file cannot be read: ",
        "larder.toml:10:1: redis.client_key: found \"/no/such/key\"; it has no use",
        "larder.toml:10:1: redis.client_key: found \"/no/such/key\"; expected client_certificate beside it",
        "larder.toml:10:1: redis.client_key: found \"/no/such/key\"; /no/such/key cannot be read: ",
        "larder.toml:11:14: redis.stream_len: found the number 1, expected a whole number from 100 to ",
        "larder.toml:12:8: redis.mode: found \"careful\", expected \"available\" or \"strict\"",
    ];
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    assert!(!found.concat().contains("hunter2"), "{found:#?}");

    let literal = faults("[redis]\nurl = \"redis://h\"\npassword = \"hunter2\"");
    assert_eq!(literal, ["larder.toml:3:12: redis.password: found a text that is not shown here, expected \"env:NAME\" or \"file:PATH\""]);
    let nowhere = faults("[redis]\nurl = \"http://:hunter2@h\"\npassword = \"env:LARDER_NO_SUCH\"\nprefix = \"a{b}\"\ninstance = \"\"");
    assert!(nowhere[0].starts_with("larder.toml:2:1: redis.url: found \"http://:***@h\";"), "{nowhere:#?}");
    assert!(nowhere.concat().contains("the environment has no variable LARDER_NO_SUCH"), "{nowhere:#?}");
    assert!(nowhere.concat().contains("redis.instance: found \"\", expected a name of 1 to 128 bytes"), "{nowhere:#?}");
    assert!(faults("[redsi]\nurl = \"redis://h\"")[0].ends_with("did you mean \"redis\"?"));
    let flags = [FlagGiven { setting: "redis.url", flag: "--redis", text: "redis://h".to_owned() }];
    let both = Config::read(None, environment(&[("LARDER_DATA", "x")]), &flags).expect_err("one is to be given").to_string();
    assert!(both.starts_with("environment LARDER_DATA: data: found \"x\" together with redis.url (flag --redis)"), "{both}");
}

#[test]
fn flags_override_the_environment_which_overrides_the_file() {
    let file = "memory = \"1 MiB\"\ndisk = \"1 GiB\"\n[http]\nlisten = \"127.0.0.1:1\"\ndrain = \"1s\"\n[default_namespace]\nttl = \"1s\"";
    let variables = environment(&[
        ("LARDER_MEMORY", "2 MiB"),
        ("LARDER_HTTP_LISTEN", "127.0.0.1:2"),
        ("LARDER_DEFAULT_NAMESPACE_TTL", "2s"),
        ("LARDER_DEFAULT_NAMESPACE_TAGS", "symbol:{1}, model:{3}"),
    ]);
    let flags = [FlagGiven { setting: "http.listen", flag: "--http", text: "127.0.0.1:3".to_owned() }];
    let config = Config::read(Some((Path::new("x.toml"), file)), variables, &flags).expect("it is right");
    assert_eq!((config.memory_bytes, config.disk_bytes), (2 << 20, 1 << 30));
    assert_eq!(config.http.listen.port(), 3);
    assert_eq!(config.http.drain, Duration::from_secs(1));
    let policy = Policy::default().ttl(Duration::from_secs(2)).tag("symbol:{1}").tag("model:{3}");
    assert_eq!(config.default_namespace, policy);
    let shown = show(&config);
    for (setting, from) in [
        ("memory", "environment LARDER_MEMORY"),
        ("disk", "x.toml:2:1"),
        ("listen", "flag --http"),
        ("index", "default"),
        ("data", "not set"),
    ] {
        let line = shown.lines().find(|line| line.trim_start_matches("# ").starts_with(setting)).expect("every setting is shown");
        assert!(line.ends_with(&format!("# {from}")), "{line}");
    }
    let json = show_json(&config);
    assert_eq!(json["http.listen"], serde_json::json!({ "value": "127.0.0.1:3", "from": "flag --http" }));
    assert_eq!(json["data"]["value"], serde_json::Value::Null);
}

#[test]
fn faults_of_the_environment_and_of_flags_name_them() {
    let variables = environment(&[("LARDER_MEMORY", "much"), ("LARDER_DURABILITY", "never")]);
    let flags = [FlagGiven { setting: "http.listen", flag: "--http", text: "here".to_owned() }];
    let found = Config::read(None, variables, &flags).expect_err("three are wrong").to_string();
    let expected = "environment LARDER_DURABILITY: durability: found \"never\", expected \"os\" or \"fsync\"\n\
        environment LARDER_MEMORY: memory: found \"much\", expected a size such as \"256 MiB\" or a number of bytes, at least 64 KiB\n\
        flag --http: http.listen: found \"here\", expected an address with its port such as \"127.0.0.1:7070\"";
    assert_eq!(found, expected);
}

#[test]
fn variables_that_are_nearly_a_settings_are_suspicious() {
    let variables =
        environment(&[("LARDER_MEMROY", "1"), ("LARDER_SERVICE_HOST", "1"), ("LARDER_LOG", "debug"), ("LARDER_DATA", "x"), ("HOME", "/")]);
    assert_eq!(suspicious(variables), [("LARDER_MEMROY".to_owned(), "LARDER_MEMORY".to_owned())]);
}

#[test]
fn what_is_shown_is_a_configuration_with_the_same_meaning() {
    let text = "data = \"/x\\\"y\"\n[namespaces.\"a.b\"]\nttl = \"5m\"\ncompression = { codec = \"lz4\" }\ntags = [\"a\\\\b\"]";
    let config = read(text).expect("it is right");
    let again = read(&show(&config)).expect("what is shown can be read");
    assert_eq!(again.namespaces, config.namespaces);
    assert_eq!((again.data, again.http), (config.data, config.http));
}

const RULES: &str = r#"
[[on]]
type = "bar_closed"
invalidate = ["features:*:{symbol}", "tag:symbol:{symbol}"]
when = "interval == '5m'"
debounce = "20ms"
name = "bars"

[[on]]
type = "market_data_update"
invalidate = ["everything"]
"#;

#[test]
fn rules_for_events_arrive_and_are_shown() {
    let config = read(RULES).expect("it is right");
    let names: Vec<_> = config.rules.iter().map(|rule| (rule.kind(), rule.name())).collect();
    assert_eq!(names, [("bar_closed", "bars"), ("market_data_update", "market_data_update")]);
    assert_eq!(read(&show(&config)).expect("what is shown can be read").rules, config.rules);
    assert_eq!(show_json(&config)["on.1.debounce"]["value"], "20ms");
    assert_eq!(json_schema()["properties"]["on"]["items"]["properties"]["debounce"]["type"], "string");
}

#[test]
fn sources_of_events_arrive_and_are_shown_without_secrets() {
    let text = r#"
[[source]]
type = "redis-stream"
url = "redis://127.0.0.1:6379"
stream = "market"
covers = ["features:**", "tag:market", "namespace:prediction"]
queue = 100

[[source]]
type = "postgres"
url = "env:OUTBOX"
"#;
    let environment = [("OUTBOX".to_owned(), "postgres://larder:hunter2@127.0.0.1/shop".to_owned())];
    let read = |text: &str| Config::read(Some((Path::new("larder.toml"), text)), environment.clone(), &[]);
    let config = read(text).expect("it is right");
    let shown: Vec<_> = config.sources.iter().map(|source| format!("{source:?}")).collect();
    assert_eq!(shown, ["redis-stream market as larder", "postgres larder_outbox"]);
    let again = show(&config);
    assert!(again.contains("[[source]]") && !again.contains("hunter2") && !format!("{config:?}").contains("hunter2"), "{again}");
    assert_eq!(read(&again).expect("what is shown can be read").sources.len(), 2);
    assert_eq!(show_json(&config)["source.1.queue"]["value"], 100);
    assert_eq!(json_schema()["properties"]["source"]["items"]["required"], serde_json::json!(["type", "url"]));
}

#[test]
fn what_is_wrong_with_a_source_is_told_where_it_stands() {
    let text = r#"[[source]]
url = "redis://127.0.0.1"
[[source]]
type = "redis-stream"
url = "redis://:hunter2@127.0.0.1"
stream = "a"
[[source]]
type = "redis-stream"
url = "redis+cluster://127.0.0.1"
stream = "a"
table = "b"
[[source]]
type = "postgres"
url = "postgres://127.0.0.1/d"
table = "A"
[[source]]
type = "postgres"
url = "env:NOWHERE"
covers = ["tag:"]
[[source]]
type = "redis-stream"
url = "redis://127.0.0.1"
"#;
    let found = faults(text);
    let expected = [
        ("larder.toml:1:1: source.type: a source says what it is", ""),
        ("larder.toml:5:1: source.url: ", "a password does not stand in a file"),
        ("larder.toml:10:1: source.stream: ", "cluster"),
        ("larder.toml:11:1: source.table: ", "has none"),
        ("larder.toml:15:1: source.table: ", "small letters"),
        ("larder.toml:18:1: source.url: ", "NOWHERE"),
        ("larder.toml:19:1: source.covers: ", "tag"),
        ("larder.toml:20:1: source.stream: ", "which stream"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for ((start, part), found) in expected.iter().zip(&found) {
        assert!(found.starts_with(start) && found.contains(part) && !found.contains("hunter2"), "{found}");
    }
}

#[test]
fn what_is_wrong_with_a_rule_is_told_where_it_stands() {
    let text = r#"on = 3
[[rule]]
"#;
    assert!(faults(text)[0].starts_with("larder.toml:1:6: on: found the number 3, expected a section [[on]]"), "{:?}", faults(text));
    let text = r#"[[on]]
type = "a"
[[on]]
type = "b"
invalidate = ["a:{b"]
[[on]]
type = "c"
invalidate = ["tag:{x}"]
when = "x = 1"
[[on]]
type = "d"
invalidate = ["tag:{x}"]
debounce = "1h"
wehn = "x"
"#;
    let found = faults(text);
    let expected = [
        ("larder.toml:1:1: on.invalidate: a rule says", "what they invalidate"),
        ("larder.toml:5:1: on.invalidate: the template \"a:{b\" has a brace", ""),
        ("larder.toml:9:1: on.when: the condition \"x = 1\" makes no sense at character 3", ""),
        ("larder.toml:13:1: on.debounce: ", "60s"),
        ("larder.toml:14:1: on 4.wehn: there is no such setting; did you mean \"when\"?", ""),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for ((start, part), found) in expected.iter().zip(&found) {
        assert!(found.starts_with(start) && found.contains(part), "{found}");
    }
}

#[test]
fn the_annotated_file_changes_nothing_and_names_everything() {
    let config = read(&annotated()).expect("it can be used as it is");
    assert_eq!(config.default_namespace, Policy::default());
    for section in FIXED {
        for setting in section.settings {
            assert!(annotated().contains(&format!("\n# {} = ", setting.name)), "{}", setting.name);
        }
    }
    assert!(annotated().lines().all(|line| line.chars().count() <= 120));
}

#[test]
fn the_schema_names_everything_and_refuses_the_rest() {
    let schema = json_schema();
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["properties"]["memory"]["default"], "256 MiB");
    assert_eq!(schema["properties"]["http"]["properties"]["listen"]["x-environment"], "LARDER_HTTP_LISTEN");
    let namespace = &schema["properties"]["namespaces"]["additionalProperties"];
    assert_eq!(namespace["additionalProperties"], false);
    assert_eq!(namespace["properties"]["compression"]["properties"]["above"]["default"], "4 KiB");
}

proptest! {
    #![proptest_config(crate::demo::properties())]

    #[test]
    fn no_text_panics(text in "(?s).{0,200}") {
        if let Err(faults) = read(&text) {
            prop_assert!(!faults.0.is_empty());
        }
    }

    /// Texts that are more often TOML, with names that are often settings.
    #[test]
    fn no_toml_panics(lines in proptest::collection::vec(line(), 0..12)) {
        let text = lines.join("\n");
        if let Err(faults) = read(&text) {
            let total = lines.len();
            for fault in faults.0 {
                let Place::File { line, .. } = fault.place else { panic!("{fault} has no line") };
                prop_assert!(line <= total + 1, "{} in {}", line, text);
            }
        }
    }
}

fn line() -> impl Strategy<Value = String> {
    const NAMES: &[&str] =
        &["memory", "data", "http", "namespaces", "ttl", "tags", "codec", "compression", "listen", "default_namespace", "x"];
    const VALUES: &[&str] = &[
        "1",
        "-1",
        "1.5",
        "true",
        "\"\"",
        "\"5m\"",
        "\"1 MiB\"",
        "[]",
        "[\"{1}\"]",
        "{ codec = \"zstd\" }",
        "{}",
        "nan",
        "2020-01-01",
        "\u{e4}",
    ];
    let (name, value) = (proptest::sample::select(NAMES), proptest::sample::select(VALUES));
    (name, value, 0..4u8).prop_map(|(name, value, shape)| match shape {
        0 => format!("[{name}]"),
        1 => format!("[namespaces.{name}]"),
        2 => format!("{name}.a = {value}"),
        _ => format!("{name} = {value}"),
    })
}

#[test]
fn health_that_makes_no_sense_is_refused_and_certificates_are_watched() {
    let found = faults("[health]\nprobe_every = \"10ms\"\ndisk_free_degraded = \"1 MiB\"\nhit_rate_min = 1.5\n");
    for part in [
        ":2:1: health.probe_every: found \"10ms\"; it is from 100ms to 1h",
        ":3:1: health.disk_free_degraded: found \"1 MiB\"; it is no less than disk_free_unhealthy (\"64 MiB\")",
        "health.hit_rate_min: found the number 1.5, expected a share from 0 to 1",
    ] {
        assert!(found.iter().any(|fault| fault.contains(part)), "{part} in {found:?}");
    }
    assert_eq!(found.len(), 3, "{found:?}");
    let config = read("data = \"d\"\n[health]\nprobes = false\nwindows = 7\n").expect("it makes sense");
    let watched = config.watched();
    assert_eq!((watched.data, watched.limits.probes, watched.limits.windows), (Some("d".into()), false, 7));
    assert_eq!(read("").expect("nothing is needed").watched().limits, HealthLimits::default());
}

#[test]
fn a_collector_has_an_address_without_tls() {
    for bad in ["https://collector:4318", "collector:4318", "http://", "http://user@host", "http://host?x"] {
        let found = faults(&format!("[otlp]\nendpoint = \"{bad}\"\n"));
        assert!(found.len() == 1 && found[0].contains("otlp.endpoint: found"), "{bad}: {found:?}");
    }
    assert!(faults("[otlp]\nevery = \"1ms\"\n")[0].contains("at least 100ms"));
    assert_eq!(read("").expect("nothing is needed").otlp, None);
    let otlp = read("[otlp]\nendpoint = \"http://c:4318/\"\n[redis]\ninstance = \"a\"\n").expect("it makes sense").otlp;
    let expected = Otlp { endpoint: "http://c:4318/".into(), every: Duration::from_secs(10), instance: Some("a".into()) };
    assert_eq!(otlp, Some(expected));
}

#[test]
fn jobs_have_their_schedules_and_what_is_wrong_with_them_is_told() {
    let config = read("data = \"d\"\n[jobs.cleanup]\nzone = \"Europe/Berlin\"\nmissed = \"all\"\n[jobs.optimize]\nenabled = false\n")
        .expect("it is right");
    let names: Vec<&str> = config.jobs.jobs.iter().map(|job| job.name.as_str()).collect();
    assert_eq!(names, ["cleanup", "analyze", "backup"]);
    let cleanup = &config.jobs.jobs[0];
    assert_eq!((cleanup.schedule.terms().as_str(), cleanup.missed), ("0 2 * * * Europe/Berlin", crate::jobs::Missed::All));
    assert_eq!((config.jobs.file, config.jobs.reports), (Some(Path::new("d").join("jobs.db")), Some(Path::new("d").join("reports"))));
    let alone = read("").expect("it is right").jobs;
    assert_eq!((alone.jobs.len(), alone.file, alone.reports), (4, None, None));
    let text = "[jobs.clenup]\nzone = \"UTC\"\n[jobs.cleanup]\nschedule = \"0 25 * * *\"\njitter = \"25h\"\n[jobs.analyze]\nzone = \"Europe/Atlantis\"\nretris = 1\n[jobs.optimize]\nschedule = \"0 0 31 2 *\"\n[jobs.other]\nzone = \"UTC\"\n";
    let found = faults(text);
    let expected = [
        "larder.toml:1:7: jobs.clenup: there is no such job; did you mean \"cleanup\"?",
        "larder.toml:4:1: jobs.cleanup.schedule: found \"0 25 * * *\"; not five fields of cron",
        "larder.toml:5:1: jobs.cleanup.jitter: found \"1d 1h\"; it is from 0s to 1d",
        "larder.toml:7:1: jobs.analyze.zone: found \"Europe/Atlantis\"; there is no such time zone",
        "larder.toml:8:1: jobs.analyze.retris: there is no such setting; did you mean \"retries\"?",
        "larder.toml:10:1: jobs.optimize.schedule: found \"0 0 31 2 *\"; there is no such day",
        "larder.toml:11:7: jobs.other: there is no such job; expected one of cleanup, optimize, analyze, backup",
    ];
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    let shown = show(&read("[jobs.backup]\nretries = 5\n").expect("it is right"));
    assert!(shown.contains("[jobs.cleanup]") && shown.contains("retries = 5"), "{shown}");
}
