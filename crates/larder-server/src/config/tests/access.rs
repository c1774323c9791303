//! Who may do what, as configurations say it.

use super::*;
use crate::access::allowance::{OfPrincipal, OfRole};

#[test]
fn who_may_do_what_is_read_with_all_that_is_wrong_and_nothing_secret_is_shown() {
    let token = crate::access::token::Token::draw().expect("chance");
    let environment =
        [("T".to_owned(), token.reveal()), ("P".to_owned(), "correct horse".to_owned()), ("X".to_owned(), "rubbish!".to_owned())];
    let text = r#"
        data = "/tmp/x"
        [access]
        enabled = true
        [[role]]
        name = "quants"
        grants = ["allow read, write on features:**", "deny read on features:secret:**"]
        [[principal]]
        name = "ingest"
        roles = ["quants", "viewer"]
        token = "env:T"
        password = "env:P"
    "#;
    let config = Config::read(Some((Path::new("a.toml"), text)), environment.clone(), &[]).expect("it is right");
    let principal = &config.access.principals[0];
    assert!(config.access.enabled && config.access.store.is_some() && config.access.roles.len() == 1);
    assert_eq!(principal.token.as_ref().map(|(id, digest)| (id.as_str(), *digest)), Some((token.id(), token.digest())));
    assert!(principal.password.as_ref().is_some_and(|password| password.is(b"correct horse")));
    let shown = format!("{}{}{config:?}", show(&config), show_json(&config));
    assert!(shown.contains("env:T") && !shown.contains(&token.reveal()) && !shown.contains("horse"), "{shown}");

    let limits = r#"
        data = "/tmp/x"
        [access]
        enabled = true
        requests_per_second = 100
        [[role]]
        name = "client"
        pipeline_max = 50
        [[role]]
        name = "quants"
        grants = ["allow read on features:**"]
        request_bytes_max = "64 KiB"
        [[principal]]
        name = "ingest"
        roles = ["service"]
        connections_max = 9
    "#;
    let allowances = Config::read(Some((Path::new("a.toml"), limits)), environment.clone(), &[]).expect("it is right").access.allowances;
    assert_eq!(allowances.anybody, OfPrincipal { requests_per_second: 100, connections_max: 0 });
    assert_eq!(allowances.principals["ingest"], OfPrincipal { requests_per_second: 100, connections_max: 9 });
    assert_eq!(allowances.roles["client"], OfRole { pipeline_max: 50, request_bytes_max: 0 });
    assert_eq!(allowances.roles["quants"], OfRole { pipeline_max: 0, request_bytes_max: 64 << 10 });

    let wrong = r#"
        [access]
        enabled = true
        [[role]]
        name = "admin"
        grants = ["allow reed"]
        [[role]]
        grants = ["deny read on a:**:b"]
        [[role]]
        name = "nothing"
        pipeline_max = 4
        [[principal]]
        name = "a b"
        token = "env:X"
        [[principal]]
        name = "c"
        roles = ["no-such"]
        password = "env:X"
    "#;
    let Faults(faults) = Config::read(Some((Path::new("a.toml"), wrong)), environment, &[]).expect_err("it is wrong");
    let told = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    for part in [
        "no operation \"reed\"",
        "built in",
        "role.name: each has a name",
        "not the last segment",
        "not \"a b\"",
        "principal.token: found \"env:X\"; it is no token",
        "principal.password: found \"env:X\"",
        "which there is not",
        "nobody could be let in",
        "role.grants: a role is a name for grants",
    ] {
        assert!(told.contains(part), "{part:?} in\n{told}");
    }
    assert!(!told.contains("rubbish"), "{told}");
}
