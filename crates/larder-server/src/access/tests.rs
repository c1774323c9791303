//! The door: who is let in, for how long, and what becomes of who is in when that changes.

use larder::access::{Operation, Target};

use super::book::Person;
use super::*;

fn settings(folder: &tempfile::TempDir) -> AccessSettings {
    AccessSettings {
        enabled: true,
        store: Some(Store::in_folder(folder.path())),
        session: Duration::from_secs(3_600),
        ..AccessSettings::default()
    }
}

async fn with_ada(folder: &tempfile::TempDir, clock: &Clock) -> (Arc<Door>, Token) {
    let door = Door::of(settings(folder), clock.clone()).unwrap();
    let now = door.now_ms();
    let made = door.change(move |book, _| {
        book.put_principal("ada", Person { roles: vec!["client".to_owned()], ..Person::default() })?;
        book.create_token("ada", "", Some(Duration::from_secs(60)), now)
    });
    let token = made.await.unwrap();
    (door, token)
}

fn name(let_in: Result<Arc<Identity>, NotLetIn>) -> Result<String, NotLetIn> {
    let_in.map(|who| who.principal.name().to_owned())
}

#[tokio::test]
async fn a_token_lets_in_until_it_expires_or_is_taken_back_and_after_a_restart() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::manual());
    let (door, token) = with_ada(&folder, &clock).await;
    assert_eq!(name(door.by_token(&token)), Ok("ada".to_owned()));
    let foreign = Token::draw_again(token.id()).unwrap();
    assert_eq!(door.by_token(&foreign), Err(NotLetIn::Wrong));
    assert_eq!(door.by_token(&Token::draw().unwrap()), Err(NotLetIn::Wrong), "told as a wrong secret is");
    assert!(Door::of(settings(&folder), clock.clone()).is_err(), "one process at a time has the book");
    door.write_used().await;
    drop(door);
    let door = Door::of(settings(&folder), clock.clone()).unwrap();
    let identity = door.by_token(&token).unwrap();
    assert!(door.look(|book, _| book.tokens[token.id()].last_used_ms.is_some()), "it was written down when it was used");
    assert!(door.renew(&identity).is_some() && identity.is_live(door.now_ms()));
    clock.advance(Duration::from_secs(61));
    assert!(door.by_token(&token).is_err() && door.renew(&identity).is_none() && !identity.is_live(door.now_ms()));
}

#[tokio::test]
async fn what_changes_is_seen_by_who_is_in() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::manual());
    let (door, token) = with_ada(&folder, &clock).await;
    let identity = door.by_token(&token).unwrap();
    let (before, id) = (door.generation(), token.id().to_owned());
    let operator = Person { roles: vec!["operator".to_owned()], ..Person::default() };
    door.change(move |book, _| book.put_principal("ada", operator)).await.unwrap();
    assert!(door.generation() > before);
    let now = door.renew(&identity).unwrap();
    assert!(
        now.principal.check(Operation::Metrics, Target::Server).is_ok()
            && identity.principal.check(Operation::Metrics, Target::Server).is_err()
    );
    // Rotated: the secret before is good for its time, and who is in with it is for as long.
    let (rotates, now) = (id.clone(), door.now_ms());
    let next = door.change(move |book, _| book.rotate(&rotates, (Duration::from_secs(10), None), now)).await.unwrap();
    assert!(door.by_token(&next).is_ok() && door.by_token(&token).is_ok());
    clock.advance(Duration::from_secs(11));
    assert!(door.by_token(&next).is_ok() && door.by_token(&token).is_err() && door.renew(&identity).is_none());
    let ended = tokio::spawn({
        let (door, identity) = (door.clone(), door.by_token(&next).unwrap());
        async move { door.ended(&identity, |_| true).await }
    });
    door.change(move |book, _| book.revoke(&id)).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("it ends").unwrap();
    assert!(door.by_token(&next).is_err() && door.renew(&identity).is_none());
}

#[tokio::test]
async fn passwords_and_sessions_hold_until_the_password_changes() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::manual());
    let (door, _) = with_ada(&folder, &clock).await;
    let set = |password: &'static [u8]| {
        let door = door.clone();
        async move {
            let person = Person {
                roles: vec!["client".to_owned()],
                password: Some(door.hash(password.to_vec()).await.unwrap()),
                ..Person::default()
            };
            door.change(move |book, _| book.put_principal("ada", person)).await.unwrap();
        }
    };
    set(b"correct horse").await;
    assert_eq!(name(door.by_password("ada", b"correct horse").await), Ok("ada".to_owned()));
    for (name, password) in [("ada", b"wrong horse!!".as_slice()), ("bob", b"correct horse"), ("ada", b""), ("ada", &[b'x'; 1_000])] {
        assert_eq!(door.by_password(name, password).await, Err(NotLetIn::Wrong));
    }
    let identity = door.by_password("ada", b"correct horse").await.unwrap();
    let Proof::Password(hashed) = &identity.proof else { panic!("{identity:?}") };
    let now = door.now_ms();
    let begun = door.sessions().begin(&identity.principal, hashed, now + 1_000, now).unwrap();
    let (who, word) = door.by_cookie(begun.secret.as_bytes()).unwrap();
    assert!(who.principal.name() == "ada" && word == begun.word);
    assert!(session::Sessions::is_word(&word, begun.word.as_bytes()) && !session::Sessions::is_word(&word, b""));
    assert!(door.by_cookie(b"x").is_err());
    set(b"another horse").await;
    assert!(door.by_cookie(begun.secret.as_bytes()).is_err() && door.renew(&identity).is_none() && door.renew(&who).is_none());
    let shown = format!("{identity:?} {who:?} {door:?}");
    assert!(!shown.contains(&begun.secret) && !shown.contains("horse") && shown.contains("***"), "{shown}");
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_what_was_there_stays() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), Clock::manual());
    let mut with_configured = settings(&folder);
    let token = Token::draw().unwrap();
    with_configured.principals.push(Configured {
        name: "fixed".to_owned(),
        roles: vec!["service".to_owned()],
        grants: Vec::new(),
        token: Some((token.id().to_owned(), token.digest())),
        password: None,
        certificates: Vec::new(),
    });
    let door = Door::of(with_configured.clone(), clock.clone()).unwrap();
    assert_eq!(name(door.by_token(&token)), Ok("fixed".to_owned()));
    let unknown_role = Person { roles: vec!["no-such".to_owned()], ..Person::default() };
    assert!(matches!(door.change(move |book, _| book.put_principal("x", unknown_role)).await, Err(Unchanged::Unknown(_))));
    assert!(door.change(|book, _| book.put_principal("fixed", Person::default())).await.is_err());
    assert!(door.look(|book, policy| book.principals.is_empty() && policy.get("x").is_none()));
    drop(door);
    // Whose role is gone is not let in: it may have been one that denies.
    let mut book = Book::default();
    book.put_principal("gone", Person { roles: vec!["no-such".to_owned(), "admin".to_owned()], ..Person::default() }).unwrap();
    let orphan = book.create_token("gone", "", None, 0).unwrap();
    Store::in_folder(folder.path()).write(&book).unwrap();
    let door = Door::of(with_configured, clock).unwrap();
    assert_eq!(door.by_token(&orphan), Err(NotLetIn::Wrong));
    std::fs::write(folder.path().join("access.json"), "{}").unwrap();
    drop(door);
    assert!(Door::of(settings(&folder), Clock::manual()).is_err());
    let nowhere = Door::of(AccessSettings { store: None, ..settings(&folder) }, Clock::manual()).unwrap();
    assert!(nowhere.change(|book, _| book.create_token("ada", "", None, 0)).await.is_err());
}

#[tokio::test]
async fn a_certificate_is_of_the_one_principal_that_is_called_by_a_name_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let called = |name: &str, certificates: &[&str]| Configured {
        name: name.to_owned(),
        roles: vec!["client".to_owned()],
        grants: Vec::new(),
        token: None,
        password: None,
        certificates: certificates.iter().map(|text| PeerName::parse(text).unwrap()).collect(),
    };
    let principals = vec![called("feed", &["uri:spiffe://x/feed", "dns:feed.example"]), called("web", &["dns:web.example"])];
    let door = Door::of(AccessSettings { principals, ..settings(&folder) }, Clock::manual()).unwrap();
    let of = |names: &[&str]| {
        let names: PeerNames = names.iter().map(|text| PeerName::parse(text).unwrap()).collect();
        door.by_certificate(&names).map(|who| who.principal.name().to_owned())
    };
    assert_eq!(of(&["uri:spiffe://x/feed"]).as_deref(), Some("feed"));
    assert_eq!(of(&["email:a@b", "dns:FEED.example"]).as_deref(), Some("feed"));
    assert_eq!(of(&["dns:feed.example", "uri:spiffe://x/feed"]).as_deref(), Some("feed"), "two names of one");
    assert_eq!(of(&["dns:feed.example", "dns:web.example"]), None, "of two at once is of nobody");
    assert_eq!(of(&[]), None);
    assert_eq!(of(&["uri:feed.example", "dns:spiffe://x/feed"]), None, "the kind of a name is a part of it");
    for slip in ["", "feed", "dns:", "ip:10.0.0.1"] {
        assert_eq!(PeerName::parse(slip), None, "{slip}");
    }
    let who = door.by_certificate(&[PeerName::Dns("web.example".to_owned())].into_iter().collect()).unwrap();
    assert_eq!(door.renew(&who).as_deref(), Some(&*who));
}

#[test]
fn a_name_that_is_nobodys_takes_as_long_as_somebodys() {
    let slow = Hashed::parse("$argon2id$v=19$m=65536,t=4,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA").expect("it is one");
    let of = |name: &str, password: Hashed| Configured {
        name: name.to_owned(),
        roles: Vec::new(),
        grants: Vec::new(),
        token: None,
        password: Some(password),
        certificates: Vec::new(),
    };
    let door = |principals| Door::of(AccessSettings { enabled: true, principals, ..AccessSettings::default() }, Clock::manual()).unwrap();
    let alone = door(vec![of("ada", slow.clone())]);
    let like = |door: &Door, name: &str| {
        let (hashed, is_somebody) = door.compared(name);
        assert_eq!(is_somebody, name == "ada" || name == "bob");
        hashed.costs_as(&slow)
    };
    assert!(like(&alone, "ada") && (0..100).all(|at| like(&alone, &format!("n{at}"))));
    assert!(!like(&door(Vec::new()), "n"));
    let both = door(vec![of("ada", slow.clone()), of("bob", Hashed::nobodys())]);
    assert!(like(&both, "ada") && !like(&both, "bob"));
    let slow_ones = (0..200).filter(|at| like(&both, &format!("n{at}"))).count();
    assert!((50..150).contains(&slow_ones), "{slow_ones} of 200 take as long as ada's");
    assert!((0..200).all(|at| like(&both, &format!("n{at}")) == like(&both, &format!("n{at}"))), "and always the same");
}
