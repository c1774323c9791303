//! Decisions against a plainer reading of what they should be, the built-in roles, and texts of grants.

use proptest::prelude::*;

use super::*;
use crate::pattern::Pattern;

fn grant(text: &str) -> Grant {
    text.parse().unwrap()
}

fn somebody(grants: &[&str]) -> Principal {
    Principal::new("ada", &[], &grants.iter().map(|text| grant(text)).collect::<Vec<_>>()).unwrap()
}

fn may(who: &Principal, operation: Operation, target: Target<'_>) -> bool {
    who.check(operation, target).is_ok()
}

#[test]
fn the_built_in_roles_are_what_they_were_and_the_others_do_what_their_names_say() {
    use Operation::{Admin, Delete, Emit, Invalidate, Metrics, Read, Write};
    let expected: [(&str, &[Operation]); 6] = [
        ("admin", &Operation::ALL),
        ("service", &[Read, Write]),
        ("client", &[Read]),
        ("invalidator", &[Invalidate, Emit]),
        ("operator", &[Read, Delete, Invalidate, Emit, Metrics]),
        ("viewer", &[Metrics]),
    ];
    assert_eq!(Role::built_in_names().collect::<Vec<_>>(), expected.map(|(name, _)| name));
    for (name, operations) in expected {
        let who = Principal::new("x", &[&Role::built_in(name).unwrap()], &[]).unwrap();
        for operation in Operation::ALL {
            let target = if operation.is_about_keys() { Target::Key(b"a:b") } else { Target::Server };
            assert_eq!(may(&who, operation, target), operations.contains(&operation), "{name} {operation}");
            assert_eq!(who.rights().allows_everywhere(operation), operations.contains(&operation));
        }
    }
    // The seed system knew four operations, and these are its three roles.
    let seeds = |role: &str| {
        let who = Principal::new("x", &[&Role::built_in(role).unwrap()], &[]).unwrap();
        [Read, Write, Delete, Admin].map(|operation| who.rights().allows_everywhere(operation))
    };
    assert_eq!(seeds("admin"), [true, true, true, true]);
    assert_eq!(seeds("service"), [true, true, false, false]);
    assert_eq!(seeds("client"), [true, false, false, false]);
}

#[test]
fn who_has_no_grants_may_nothing_and_who_is_denied_may_not_whatever_else_is_said() {
    let nobody = somebody(&[]);
    assert!(
        Operation::ALL.iter().all(|operation| !may(&nobody, *operation, Target::Key(b"a")) && !may(&nobody, *operation, Target::Server))
    );
    let ada = somebody(&["allow read on a:**", "deny read on a:secret:**", "allow read on a:secret:x"]);
    assert!(may(&ada, Operation::Read, Target::Key(b"a:b")));
    assert!(!may(&ada, Operation::Read, Target::Key(b"a:secret:x")) && !may(&ada, Operation::Read, Target::Key(b"b")));
    assert!(!may(&ada, Operation::Write, Target::Key(b"a:b")));
    let decision = ada.rights().decide(Operation::Read, Target::Key(b"a:secret:x"));
    assert_eq!((decision.allowed, decision.by.unwrap().0.to_string().as_str()), (false, "deny read on a:secret:**"));
    assert_eq!(ada.rights().decide(Operation::Read, Target::Key(b"b")).by, None);
}

#[test]
fn what_touches_many_keys_needs_the_right_over_all_of_them() {
    let pattern = |text: &str| text.parse::<Pattern>().unwrap();
    let ada = somebody(&["allow invalidate on a:**", "deny invalidate on a:live:**"]);
    assert!(may(&ada, Operation::Invalidate, Target::Pattern(&pattern("a:old:**"))));
    for wide in ["a:**", "a:*:x", "**", "*:b", "a:l*:x"] {
        assert!(!may(&ada, Operation::Invalidate, Target::Pattern(&pattern(wide))), "{wide}");
    }
    assert!(!may(&ada, Operation::Invalidate, Target::Tag(b"t")) && !may(&ada, Operation::Invalidate, Target::Everything));
    // Two grants that together take it in are not put together.
    let both = somebody(&["allow invalidate on a:[x]", "allow invalidate on a:[^x]"]);
    assert!(!may(&both, Operation::Invalidate, Target::Pattern(&pattern("a:*"))));
    let all = somebody(&["allow invalidate"]);
    assert!(may(&all, Operation::Invalidate, Target::Tag(b"t")) && may(&all, Operation::Invalidate, Target::Everything));
    let all_but_some = somebody(&["allow invalidate", "deny invalidate on live:**"]);
    assert!(!may(&all_but_some, Operation::Invalidate, Target::Tag(b"t")), "an entry of live: may have it");
    assert!(!may(&all_but_some, Operation::Invalidate, Target::Everything));
}

#[test]
fn tags_are_what_may_be_named() {
    let by_tag = somebody(&["allow invalidate tags symbol:*"]);
    assert!(may(&by_tag, Operation::Invalidate, Target::Tag(b"symbol:AAPL")));
    assert!(!may(&by_tag, Operation::Invalidate, Target::Tag(b"model:x")));
    assert!(!may(&by_tag, Operation::Invalidate, Target::Key(b"a")), "no key was allowed");
    assert!(!may(&by_tag, Operation::Invalidate, Target::Everything));
    let writer = somebody(&["allow write on a:** tags symbol:*"]);
    assert!(may(&writer, Operation::Write, Target::Key(b"a:b")));
    assert!(may(&writer, Operation::Write, Target::Tagged { key: b"a:b", tag: b"symbol:AAPL" }));
    assert!(!may(&writer, Operation::Write, Target::Tagged { key: b"a:b", tag: b"x" }));
    let careful = somebody(&["allow write", "deny write tags internal:**"]);
    assert!(may(&careful, Operation::Write, Target::Tagged { key: b"a", tag: b"x" }) && may(&careful, Operation::Write, Target::Key(b"a")));
    assert!(!may(&careful, Operation::Write, Target::Tagged { key: b"a", tag: b"internal:x" }));
}

#[test]
fn a_refusal_says_who_and_what_and_nothing_of_what_there_is() {
    let error = somebody(&[]).check(Operation::Read, Target::Key(b"a:b")).unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Forbidden, "read \"a:b\": ada may not read this key"));
    let error = somebody(&[]).check(Operation::Metrics, Target::Server).unwrap_err();
    assert_eq!(error.to_string(), "ada may not see the numbers of this server");
}

#[test]
fn slips_in_grants_are_told() {
    for (text, says) in [
        ("", "expected \"allow\" or \"deny\""),
        ("permit read", "expected \"allow\""),
        ("allow", "one operation at least"),
        ("allow reed", "no operation \"reed\""),
        ("allow read write", "a comma between"),
        ("allow read on", "missing behind \"on\""),
        ("allow read on a:**:b", "not the last"),
        ("allow read on a b", "expected \"allow\""),
        ("allow read on a tags b", "read names no tags"),
        ("allow read, metrics on a:**", "metrics is not done to keys"),
        ("allow invalidate on a:** tags t", "in a grant of its own"),
        ("allow read on a\nb", "control character"),
    ] {
        let error = text.parse::<Grant>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.to_string().contains(says), "{text}: {error}");
    }
    let long = format!("allow read on {}", "x".repeat(9_000)).parse::<Grant>().unwrap_err();
    assert!(long.to_string().len() < 400, "{long}");
    for (text, shown) in [
        ("allow read,write", "allow read, write on **"),
        ("deny all", "deny read, write, delete, invalidate, emit, admin, metrics on **"),
        (r"allow  read  ,write on a\ b:*", r"allow read, write on a\ b:*"),
        ("allow metrics", "allow metrics"),
        ("deny write tags x", "deny write on ** tags x"),
    ] {
        assert_eq!(grant(text).to_string(), shown);
    }
}

#[test]
fn names_mean_nothing_in_patterns_or_lists() {
    for bad in ["", "a b", "a:b", "*", "a\n", "\u{e4}", "a,b", "a/b", &"x".repeat(65)] {
        assert!(check_name(bad).is_err(), "{bad:?}");
        assert!(Principal::new(bad, &[], &[]).is_err() && Role::new(bad, vec![]).is_err());
    }
    assert!(Role::new("admin", vec![]).is_err());
    let policy = Policy::new().role(Role::new("r", vec![]).unwrap()).unwrap().principal("p", ["r", "client"], vec![]).unwrap();
    assert!(policy.clone().role(Role::new("r", vec![]).unwrap()).is_err());
    assert!(policy.clone().principal("p", [], vec![]).is_err() && policy.clone().principal("q", ["s"], vec![]).is_err());
    assert_eq!(policy.get("p").unwrap().roles(), ["r", "client"]);
    assert!(format!("{:?}", policy.get("p").unwrap()).contains("client"));
}

fn any_pattern() -> impl Strategy<Value = String> {
    let place = prop_oneof![4 => "[ab]{1,2}", 2 => Just("*".to_owned()), 1 => Just("a*".to_owned())];
    (proptest::collection::vec(place, 0..3), any::<bool>()).prop_map(|(mut parts, open)| {
        if open || parts.is_empty() {
            parts.push("**".into());
        }
        parts.join(":")
    })
}

fn any_grant() -> impl Strategy<Value = String> {
    let operations = prop_oneof!["read", "write", "invalidate", "read, invalidate", "all"];
    (any::<bool>(), operations, any_pattern()).prop_map(|(allows, operations, keys)| {
        let effect = if allows { "allow" } else { "deny" };
        if operations == "all" { format!("{effect} all") } else { format!("{effect} {operations} on {keys}") }
    })
}

proptest! {
    #[test]
    fn the_order_of_grants_means_nothing(texts in proptest::collection::vec(any_grant(), 0..6), key in "[ab]{1,2}(:[ab]{1,2}){0,2}", seed: u64) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut mixed = texts.clone();
        fastrand::Rng::with_seed(seed).shuffle(&mut mixed);
        let (one, other) = (somebody(&texts), somebody(&mixed));
        for operation in [Operation::Read, Operation::Write, Operation::Invalidate] {
            let target = Target::Key(key.as_bytes());
            prop_assert_eq!(may(&one, operation, target), may(&other, operation, target));
            // Plainly: some allow it, and none deny it.
            let about = |effect: Effect| texts.iter().map(|text| grant(text))
                .any(|grant| grant.effect() == effect && grant.operations().has(operation) && grant.keys().matches(key.as_bytes()));
            prop_assert_eq!(may(&one, operation, target), about(Effect::Allow) && !about(Effect::Deny));
            prop_assert!(may(&one, operation, target) || !one.rights().allows_everywhere(operation));
            prop_assert!(one.rights().allows_somewhere(operation) || !may(&one, operation, target));
        }
    }

    #[test]
    fn who_may_invalidate_a_pattern_may_invalidate_each_key_of_it(
        texts in proptest::collection::vec(any_grant(), 0..6), wide in any_pattern(), key in "[ab]{1,2}(:[ab]{1,2}){0,2}",
    ) {
        let who = somebody(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        let pattern: Pattern = wide.parse().unwrap();
        let one = may(&who, Operation::Invalidate, Target::Key(key.as_bytes()));
        prop_assert!(!may(&who, Operation::Invalidate, Target::Pattern(&pattern)) || !pattern.matches(key.as_bytes()) || one);
        prop_assert!(!may(&who, Operation::Invalidate, Target::Tag(b"t")) || one);
        prop_assert!(!may(&who, Operation::Invalidate, Target::Everything) || one);
    }

    #[test]
    fn a_grant_survives_its_text(text in any_grant()) {
        prop_assert_eq!(grant(&grant(&text).to_string()), grant(&text));
    }

    #[test]
    fn no_text_of_a_grant_panics(text in "((allow|deny|read|on|tags|,|\\\\| |\\*\\*|[a-z:\\*\\[]{1,3}) ?){0,8}", other in ".{0,60}") {
        for text in [text, other] {
            if let Ok(read) = text.parse::<Grant>() {
                prop_assert_eq!(&grant(&read.to_string()), &read);
            }
        }
    }
}
