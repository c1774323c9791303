//! Every call of the guarded handles, as every built-in role, over all keys and over some, with keys of one's own, others' and both.

use std::collections::BTreeSet;
use std::pin::Pin;

use bytes::Bytes;

use super::*;
use crate::access::{Operation, Operations, Role};
use crate::{Cursor, ErrorKind, Item};

const OWN: &[&str] = &["own:k"];
const FOREIGN: &[&str] = &["foreign:k"];
const MIXED: &[&str] = &["own:k", "foreign:k"];

type Outcome<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// What a call is made with: keys within the namespace `n`.
struct With<'a> {
    guarded: &'a Guarded,
    keys: &'a [&'a str],
}

impl With<'_> {
    fn whole(&self) -> Vec<String> {
        self.keys.iter().map(|key| format!("n:{key}")).collect()
    }

    fn one(&self) -> &str {
        self.keys[0]
    }

    fn whole_one(&self) -> String {
        format!("n:{}", self.one())
    }

    fn namespace(&self) -> Result<GuardedNamespace<u64>> {
        self.guarded.namespace::<u64>("n")
    }
}

/// A call: where it is, what it is called, what it needs of each key, whether it takes many, and how it is made.
struct Cell {
    file: &'static str,
    name: &'static str,
    needs: &'static [Operation],
    many: bool,
    call: for<'a> fn(&'a With<'a>) -> Outcome<'a>,
}

macro_rules! cells {
    ($($file:literal $name:ident [$($need:ident)*] $many:ident |$with:ident| $call:expr;)*) => {
        vec![$(Cell {
            file: $file,
            name: stringify!($name),
            needs: &[$(Operation::$need),*],
            many: stringify!($many) == "many",
            call: |$with| Box::pin(async move { $call.map(|_| ()) }),
        }),*]
    };
}

fn no_load() -> std::future::Ready<Result<u64>> {
    std::future::ready(Ok(1))
}

fn item() -> Item<Bytes> {
    Item::new(Bytes::from_static(b"1"))
}

fn cells() -> Vec<Cell> {
    cells! {
        "guard" invalidate [Invalidate] many |with| {
            with.guarded.invalidate(with.whole().into_iter().fold(Names::new(), Names::key)).await
        };
        "guard" impact [Invalidate] many |with| with.guarded.impact(with.whole().into_iter().fold(Names::new(), Names::key)).await;
        "guard" explain [Read] one |with| with.guarded.explain(with.whole_one()).await;
        "guard" moved [Invalidate] one |with| with.guarded.moved(with.whole_one(), 1u64).await;
        "guard" version_of [Read] one |with| with.guarded.version_of(with.whole_one()).await;
        "guard" emit [Emit] server |with| with.guarded.emit(Event::new("x", serde_json::json!({}))).await;
        "guard" rehearse [Emit] server |with| with.guarded.rehearse(&Event::new("x", serde_json::json!({}))).await;
        "guard" stats [Metrics] server |with| with.guarded.stats();
        "guard" health [Metrics] server |with| with.guarded.health();
        "namespace" get [Read] one |with| with.namespace()?.get(with.one()).await;
        "namespace" lookup [Read] one |with| with.namespace()?.lookup(with.one()).await;
        "namespace" get_or_load [Read Write] one |with| with.namespace()?.get_or_load(with.one(), no_load).await;
        "namespace" get_many [Read] many |with| with.namespace()?.get_many(with.keys).await;
        "namespace" put [Write] one |with| with.namespace()?.put(with.one(), 1).await;
        "namespace" put_if_changed [Read Write] one |with| with.namespace()?.put_if_changed(with.one(), 1).await;
        "namespace" put_many [Write] many |with| with.namespace()?.put_many(with.keys.iter().map(|key| (key, 1))).await;
        "namespace" update [Write] one |with| with.namespace()?.update(with.one(), no_load).await;
        "namespace" remove [Delete] one |with| with.namespace()?.remove(with.one()).await;
        "namespace" remove_many [Delete] many |with| with.namespace()?.remove_many(with.keys).await;
        "namespace" touch [Read Write] one |with| with.namespace()?.touch(with.one(), None).await;
        "namespace" contains [Read] one |with| with.namespace()?.contains(with.one()).await;
        "namespace" peek [Read] one |with| with.namespace()?.peek(with.one()).await;
        "raw" lookup [Read] one |with| with.guarded.raw().lookup(with.whole_one()).await;
        "raw" lookup_many [Read] many |with| with.guarded.raw().lookup_many(with.whole()).await;
        "raw" peek [Read] one |with| with.guarded.raw().peek(with.whole_one()).await;
        "raw" put [Write] one |with| with.guarded.raw().put(with.whole_one(), item()).await;
        "raw" put_if_changed [Read Write] one |with| with.guarded.raw().put_if_changed(with.whole_one(), item()).await;
        "raw" put_many [Write] many |with| with.guarded.raw().put_many(with.whole().into_iter().map(|key| (key, item()))).await;
        "raw" fill [Write] one |with| {
            let raw = with.guarded.raw();
            raw.fill(with.whole_one(), raw.begin_fill(with.whole_one()), item()).await
        };
        "raw" remove [Delete] many |with| with.guarded.raw().remove(with.whole()).await;
        "raw" touch [Read Write] one |with| with.guarded.raw().touch(with.whole_one(), None).await;
    }
}

/// What is told of more than what was asked for, and is tested on its own; and what tells nothing.
const OTHERS: [(&str, &str); 11] = [
    ("guard", "as_principal"),
    ("guard", "principal"),
    ("guard", "namespace"),
    ("guard", "raw"),
    ("namespace", "name"),
    ("namespace", "keys"),
    ("namespace", "hot_keys"),
    ("raw", "quick"),
    ("raw", "begin_fill"),
    ("raw", "keys"),
    ("raw", "random_key"),
];

#[test]
fn every_call_of_the_guarded_handles_is_in_the_matrix() {
    let sources = [("guard", include_str!("../guard.rs")), ("namespace", include_str!("namespace.rs")), ("raw", include_str!("raw.rs"))];
    let known: BTreeSet<(&str, &str)> = cells().iter().map(|cell| (cell.file, cell.name)).chain(OTHERS).collect();
    let mut calls = 0;
    for (file, source) in sources {
        for line in source.lines().filter_map(|line| line.trim().strip_prefix("pub ")) {
            let Some(rest) = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn ")) else { continue };
            let name = rest.split(['<', '(']).next().unwrap_or_default();
            assert!(known.contains(&(file, name)), "{file} {name} is not in the matrix");
            calls += 1;
        }
    }
    assert!(calls >= cells().len(), "a call in the matrix is none");
}

#[tokio::test]
async fn each_call_is_decided_by_the_rights_over_each_key() {
    let larder = Larder::builder().build().await.unwrap();
    larder.namespace::<u64>("n").unwrap();
    let mut asked = 0;
    for role in Role::built_in_names().chain(["nobody"]) {
        let role = Role::built_in(role);
        let operations = role.as_ref().map_or(Operations::default(), |role| role.grants()[0].operations());
        let everywhere = Principal::new("p", &role.iter().collect::<Vec<_>>(), &[]).unwrap();
        let some: Operations = operations.iter().filter(|operation| operation.is_about_keys()).collect();
        let own = (!some.is_empty()).then(|| format!("allow {some} on n:own:**").parse().unwrap());
        let own = Principal::new("p", &[], &own.into_iter().collect::<Vec<_>>()).unwrap();
        for (who, is_everywhere) in [(everywhere, true), (own, false)] {
            let guarded = larder.as_principal(&who);
            for cell in cells() {
                let is_about_keys = cell.needs.iter().all(|need| need.is_about_keys());
                for keys in [OWN, FOREIGN, MIXED].iter().filter(|keys| cell.many || keys.len() == 1) {
                    let within = if is_about_keys { is_everywhere || keys == &OWN } else { is_everywhere };
                    let expected = within && cell.needs.iter().all(|need| operations.has(*need));
                    let with = With { guarded: &guarded, keys };
                    let outcome = (cell.call)(&with).await;
                    let allowed = !outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::Forbidden);
                    assert_eq!(allowed, expected, "{:?} {} {} {keys:?}: {outcome:?}", role.as_ref().map(Role::name), cell.file, cell.name);
                    assert!(allowed == outcome.is_ok() || !allowed, "{} {}: {outcome:?}", cell.file, cell.name);
                    asked += 1;
                }
            }
        }
    }
    assert!(asked > 700, "{asked}");
}

#[tokio::test]
async fn lists_are_as_if_what_may_not_be_read_were_not_there() {
    let larder = Larder::builder().build().await.unwrap();
    for number in 0..40 {
        larder.raw().put(format!("n:own:{number:02}"), item()).await.unwrap();
        larder.raw().put(format!("n:foreign:{number:02}"), item()).await.unwrap();
    }
    let ada = Principal::new("ada", &[], &["allow read on n:own:**".parse().unwrap()]).unwrap();
    let guarded = larder.as_principal(&ada);
    let (mut cursor, mut found) = (Some(Cursor::start()), Vec::new());
    while let Some(at) = cursor {
        let page = guarded.raw().keys("**", at, 7).await.unwrap();
        found.extend(page.keys);
        let told = page.next.as_ref().map(ToString::to_string).unwrap_or_default();
        // A cursor is a key in hexadecimal.
        assert!(!told.contains("666f726569676e"), "{told}");
        cursor = page.next;
    }
    assert_eq!(found.len(), 40);
    assert!(found.iter().all(|key| key.starts_with(b"n:own:")));
    for _ in 0..50 {
        assert!(guarded.raw().random_key().await.unwrap().unwrap().starts_with(b"n:own:"));
    }
    let nobody = larder.as_principal(&Principal::new("nobody", &[], &[]).unwrap());
    assert_eq!(nobody.raw().random_key().await.unwrap(), None);
    assert!(nobody.raw().keys("**", Cursor::start(), 10).await.unwrap().keys.is_empty());
    assert!(nobody.raw().quick("n:own:01").is_none() && guarded.raw().quick("n:own:01").is_some());
    assert!(guarded.raw().quick("n:foreign:01").is_none());
    assert_eq!(nobody.namespace::<u64>("n").err().map(|error| error.kind()), Some(ErrorKind::Forbidden));
    let impact = larder.as_principal(&Principal::new("i", &[], &["allow invalidate".parse().unwrap()]).unwrap());
    assert!(impact.impact(Names::new().everything()).await.unwrap().namespaces.is_empty(), "numbers would tell of what may not be read");
}

#[tokio::test]
async fn tags_and_sources_are_named_by_who_may() {
    let larder = Larder::builder().build().await.unwrap();
    let grants = ["allow read, write on n:own:**", "deny write tags internal:*"].map(|text| text.parse().unwrap());
    let guarded = larder.as_principal(&Principal::new("ada", &[], &grants).unwrap());
    let raw = guarded.raw();
    let refused = |item: Item<Bytes>| {
        let raw = raw.clone();
        async move { raw.put("n:own:k", item).await.err().map(|error| error.kind()) }
    };
    assert_eq!(refused(item().tag("symbol:x")).await, None);
    assert_eq!(refused(item().tag("internal:x")).await, Some(ErrorKind::Forbidden));
    assert_eq!(refused(item().depends_on("n:own:source", 1u64)).await, None);
    assert_eq!(refused(item().depends_on("n:foreign:source", 1u64)).await, Some(ErrorKind::Forbidden));
    // Somebody else had it computed from what she may not read, so she is not told why it is stale.
    larder.raw().put("n:own:k", item().depends_on("n:foreign:source", 1u64)).await.unwrap();
    assert_eq!(guarded.explain("n:own:k").await.unwrap_err().kind(), ErrorKind::Forbidden);
    // What a loader returns is checked, too, and is not stored.
    let namespace = guarded.namespace::<u64>("n").unwrap();
    let tagged = || async { Ok::<_, std::io::Error>(Item::new(1u64).tag("internal:x")) };
    assert_eq!(namespace.get_or_load("own:loaded", tagged).await.unwrap_err().kind(), ErrorKind::Load);
    assert!(larder.raw().peek("n:own:loaded").await.unwrap().is_none());
}
