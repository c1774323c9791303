//! Access control where clients of Redis meet it: who guesses is held up, one principal does not take everything, and what somebody may do
//! is asked again whenever it may have changed. The matrix of all commands and roles is with that of the routes, in `tests/http/access`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use larder::{Clock, Larder};
use larder_server::access::allowance::{Allowances, OfPrincipal, OfRole};
use larder_server::access::book::Person;
use larder_server::access::password::Hashed;
use larder_server::access::store::Store;
use larder_server::access::token::Token;
use larder_server::access::{AccessSettings, Door};
use larder_server::resp::{self, Serving};
use larder_server::settings::RespSettings;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::wire::{Client, Value, encoded, words};

/// A server whose time stands still, and who is let in.
pub struct Guarded {
    pub addr: SocketAddr,
    door: Arc<Door>,
    clock: Clock,
    // In this order: the server ends before what it runs on.
    _serving: Serving,
    runtime: Runtime,
    _folder: TempDir,
}

impl Guarded {
    pub fn start(allowances: Allowances) -> Self {
        let folder = tempfile::tempdir().expect("temporary files can be written");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let clock = Clock::manual();
        let settings =
            AccessSettings { enabled: true, store: Some(Store::in_folder(folder.path())), allowances, ..AccessSettings::default() };
        let door = Door::of(settings, clock.clone()).expect("a door");
        let (serving, addr) = runtime.block_on(async {
            let larder = Larder::builder().clock(clock.clone()).build().await.expect("a cache");
            let settings = RespSettings { listen: Some(([127, 0, 0, 1], 0).into()), threads: 1, ..RespSettings::default() };
            let bound = resp::bind(&larder, &settings, (door.clone(), None, None)).await.expect("a free port");
            let addr = bound.addr().expect("it listens");
            (bound.serve().expect("it serves"), addr)
        });
        Guarded { addr, door, clock, _serving: serving, runtime, _folder: folder }
    }

    /// Has somebody have these roles and grants, and nothing else.
    pub fn put(&self, name: &'static str, roles: &[&str], grants: &[&str]) {
        let roles = roles.iter().map(|&role| role.to_owned()).collect();
        let grants = grants.iter().map(|grant| grant.parse().expect("a grant")).collect();
        let person = Person { roles, grants, password: None };
        self.runtime.block_on(self.door.change(move |book, _| book.put_principal(name, person))).expect("it is changed");
    }

    fn password(&self, name: &'static str, password: &str) {
        let person = Person { roles: vec!["service".to_owned()], grants: Vec::new(), password: Hashed::of(password.as_bytes()).ok() };
        self.runtime.block_on(self.door.change(move |book, _| book.put_principal(name, person))).expect("it is changed");
    }

    pub fn token(&self, name: &'static str, life: Option<Duration>) -> Token {
        let now = self.clock.now_ms();
        let made = self.door.change(move |book, _| book.create_token(name, "", life, now));
        self.runtime.block_on(made).expect("it is made")
    }

    fn revoke(&self, token: &Token) {
        let id = token.id().to_owned();
        self.runtime.block_on(self.door.change(move |book, _| book.revoke(&id))).expect("it is taken back");
    }

    fn stranger(&self) -> Client {
        Client::connect(self.addr).expect("it listens")
    }

    fn client(&self, token: &Token) -> Client {
        let mut client = self.stranger();
        assert_eq!(ask(&mut client, &format!("AUTH {}", token.reveal())).error(), None);
        client
    }
}

fn anybody(anybody: OfPrincipal) -> Allowances {
    Allowances { anybody, ..Allowances::default() }
}

fn ask(client: &mut Client, text: &str) -> Value {
    client.ask(&words(text)).expect("it answers").value
}

/// An error, in words.
fn error(value: &Value) -> String {
    value.error().unwrap_or_default().escape_ascii().to_string()
}

const HELD_UP: &str = "ERR too many attempts with a wrong user or secret; come again in ";

#[test]
fn who_guesses_is_held_up_with_the_right_secret_as_with_a_wrong_one_and_nobody_else_is() {
    let guarded = Guarded::start(Allowances::default());
    guarded.put("ada", &["service"], &[]);
    let token = guarded.token("ada", None);
    let mut known = guarded.client(&token);
    let mut guesses = guarded.stranger();
    let mut refused = 0;
    for _ in 0..11 {
        // Another id each time: it is the address that they have in common.
        let told = error(&ask(&mut guesses, &format!("AUTH {}", Token::draw().expect("chance").reveal())));
        assert!(told.starts_with("WRONGPASS"), "{refused}: {told}");
        refused += 1;
    }
    let right = format!("AUTH {}", token.reveal());
    let held = [&format!("AUTH {}", Token::draw().expect("chance").reveal()), &right, "HELLO 3 AUTH nobody x"];
    let told: Vec<String> = held.iter().map(|attempt| error(&ask(&mut guesses, attempt))).collect();
    assert!(told[0].starts_with(HELD_UP) && told.iter().all(|other| *other == told[0]), "{told:?}");
    assert!(error(&ask(&mut guarded.stranger(), &right)).starts_with(HELD_UP), "a connection is not an address");
    // It holds up no thread: there is but one, and whoever is in is served.
    assert_eq!(ask(&mut known, "SET k 1").bytes(), Some(b"OK".as_slice()));
    assert_eq!(guarded.door.refused(), refused, "what came too early was not looked at");
    guarded.clock.advance(Duration::from_secs(1));
    assert_eq!(ask(&mut guesses, &right).error(), None);
}

#[test]
fn an_id_is_held_up_alike_whether_there_is_such_a_one_or_not() {
    let told = |is_there: bool| {
        let guarded = Guarded::start(Allowances::default());
        guarded.put("ada", &["service"], &[]);
        let token = if is_there { guarded.token("ada", None) } else { Token::draw().expect("chance") };
        let wrong = format!("AUTH ada {}", Token::draw_again(token.id()).expect("chance").reveal());
        let mut client = guarded.stranger();
        (0..8).map(|_| error(&ask(&mut client, &wrong))).collect::<Vec<_>>()
    };
    let (known, unknown) = (told(true), told(false));
    assert_eq!(known, unknown);
    assert!(known[5].starts_with("WRONGPASS") && known[6].starts_with(HELD_UP), "{known:?}");
}

#[test]
fn names_and_secrets_that_are_none_are_refused_as_wrong_ones() {
    let guarded = Guarded::start(Allowances::default());
    guarded.password("default", "correct horse");
    for attempt in [r"AUTH \xff\xfe correct", "AUTH {300*a} {300*b}", r"AUTH \e \e", r"HELLO 3 AUTH *\r\n x", "AUTH default wrong-horse"] {
        let told = error(&ask(&mut guarded.stranger(), attempt));
        assert_eq!(told, "WRONGPASS invalid username-password pair or user is disabled.", "{attempt}");
    }
    // More than a stranger may send ends the connection, and is not kept.
    let mut stranger = guarded.stranger();
    stranger.send(&encoded(&["AUTH", "ada", &"x".repeat(20_000)])).expect("it is sent");
    assert!(stranger.until_closed().expect("it is closed").starts_with(b"-ERR Protocol error"));
    // A password alone is that of who is called default, as in Redis.
    let mut client = guarded.stranger();
    assert_eq!(ask(&mut client, r"AUTH correct\shorse").error(), None);
    assert_eq!(ask(&mut client, "ACL WHOAMI").bytes(), Some(b"default".as_slice()));
}

#[test]
fn one_principal_has_so_many_connections_and_each_that_ends_makes_room() {
    let guarded = Guarded::start(anybody(OfPrincipal { connections_max: 2, ..OfPrincipal::default() }));
    guarded.put("ada", &["service"], &[]);
    guarded.put("bob", &["service"], &[]);
    let (ada, bob) = (guarded.token("ada", None), guarded.token("bob", None));
    let (first, mut second) = (guarded.client(&ada), guarded.client(&ada));
    let mut third = guarded.client(&bob);
    let attempt = format!("AUTH {}", ada.reveal());
    assert_eq!(error(&ask(&mut third, &attempt)), "ERR max number of connections of this user reached (2)");
    assert_eq!(ask(&mut third, "ACL WHOAMI").bytes(), Some(b"bob".as_slice()), "it stays who it was");
    assert_eq!(ask(&mut second, &attempt).error(), None, "once more is no more");
    ask(&mut second, "RESET");
    assert_eq!(ask(&mut third, &attempt).error(), None);
    assert!(!error(&ask(&mut second, &attempt)).is_empty());
    drop(first);
    let makes_room = larder_testkit::wait::until(Duration::from_secs(5), || ask(&mut second, &attempt).error().is_none());
    assert!(makes_room, "the connection that was closed counts no more");
}

#[test]
fn one_principal_asks_so_often_over_all_its_connections_and_transactions_stay_whole() {
    let guarded = Guarded::start(anybody(OfPrincipal { requests_per_second: 5, ..OfPrincipal::default() }));
    guarded.put("ada", &["service"], &[]);
    let token = guarded.token("ada", None);
    let mut clients = [guarded.client(&token), guarded.client(&token)];
    for at in 0..5 {
        assert_eq!(ask(&mut clients[at % 2], "SET k 0").error(), None, "{at}");
    }
    for client in &mut clients {
        let told = error(&ask(client, "SET k 1"));
        assert_eq!(told, "ERR max number of requests of this user reached (5 in a second); come again");
    }
    assert!(error(&ask(&mut guarded.client(&token), "SET k 1")).starts_with("ERR max"), "who comes again is who they were");
    // What begins a transaction and ends it is let through, so that what stands in it is not carried out by itself.
    let [client, other] = &mut clients;
    assert_eq!(ask(client, "MULTI").error(), None);
    assert!(error(&ask(client, "SET k 2")).starts_with("ERR max"));
    guarded.clock.advance(Duration::from_millis(400));
    assert_eq!(ask(client, "SET k 3").bytes(), Some(b"QUEUED".as_slice()));
    assert!(error(&ask(client, "EXEC")).starts_with("EXECABORT"));
    assert_eq!(ask(other, "GET k").bytes(), Some(b"0".as_slice()));
    assert!(error(&ask(other, "GET k")).starts_with("ERR max"), "two in 400 ms");
}

#[test]
fn a_role_bounds_what_comes_at_once_and_how_large() {
    let roles = [("client".to_owned(), OfRole { pipeline_max: 3, request_bytes_max: 4_096 })];
    let guarded = Guarded::start(Allowances { roles: roles.into(), ..Allowances::default() });
    guarded.put("ada", &["service"], &[]);
    guarded.put("bob", &["service", "client"], &[]);
    let (mut ada, mut bob) = (guarded.client(&guarded.token("ada", None)), guarded.client(&guarded.token("bob", None)));
    let pipeline = encoded(&["GET", "k"]).repeat(5);
    let errors = |client: &mut Client| {
        client.send(&pipeline).expect("it is sent");
        (0..5).filter(|_| client.reply().expect("each is answered").value.error().is_some()).count()
    };
    assert_eq!((errors(&mut ada), errors(&mut bob), errors(&mut bob)), (0, 2, 2));
    assert_eq!(ask(&mut bob, "GET k").error(), None, "who waits for replies goes on");
    assert_eq!(ask(&mut ada, "SET k {5000*x}").error(), None);
    bob.send(&encoded(&["SET", "k", &"x".repeat(5_000)])).expect("it is sent");
    assert!(bob.until_closed().expect("it is closed").starts_with(b"-ERR Protocol error"));
}

#[test]
fn a_transaction_is_carried_out_whole_or_not_at_all_when_rights_have_changed() {
    let guarded = Guarded::start(Allowances::default());
    guarded.put("ada", &["service"], &[]);
    let token = guarded.token("ada", None);
    let (mut client, mut other) = (guarded.client(&token), guarded.client(&token));
    for call in ["SET own:k 0", "MULTI", "SET own:k 1", "SET foreign:k 1", "GET own:k"] {
        assert_eq!(ask(&mut client, call).error(), None, "{call}");
    }
    guarded.put("ada", &[], &["allow read, write on own:**"]);
    let done = ask(&mut client, "EXEC");
    let told: Vec<String> = done.parts().expect("one answer for each").iter().map(error).collect();
    assert!(told[0].starts_with("EXECABORT") && told[1].starts_with("NOPERM") && told[2].starts_with("EXECABORT"), "{told:?}");
    assert_eq!(ask(&mut other, "GET own:k").bytes(), Some(b"0".as_slice()));
    // What is watched is not told of either, once it may not be read.
    guarded.put("ada", &["service"], &[]);
    for call in ["WATCH foreign:k", "MULTI", "SET own:k 2"] {
        assert_eq!(ask(&mut client, call).error(), None, "{call}");
    }
    assert_eq!(ask(&mut other, "SET foreign:k 1").error(), None);
    guarded.put("ada", &[], &["allow read, write on own:**"]);
    assert!(error(&ask(&mut client, "EXEC")).starts_with("EXECABORT Transaction discarded because of: NOPERM"));
    assert_eq!(ask(&mut other, "GET own:k").bytes(), Some(b"0".as_slice()));
    // Taken back, nothing is carried out and the connection ends.
    for call in ["MULTI", "SET own:k 3"] {
        assert_eq!(ask(&mut client, call).error(), None, "{call}");
    }
    guarded.revoke(&token);
    client.send(&encoded(&["EXEC"])).expect("it is sent");
    let told = client.until_closed().unwrap_or_default();
    assert!(told.is_empty() || told.starts_with(b"-NOAUTH"), "{}", told.escape_ascii());
    let again = guarded.token("ada", None);
    assert_eq!(ask(&mut guarded.client(&again), "GET own:k").bytes(), Some(b"0".as_slice()));
}

#[test]
fn a_tag_is_permitted_before_its_command_is_queued() {
    let guarded = Guarded::start(Allowances::default());
    guarded.put("ada", &[], &["allow read, write on own:**", "deny write tags internal:*"]);
    let mut client = guarded.client(&guarded.token("ada", None));
    for (call, is_refused) in [
        ("LARDER.SET own:k 1 TAG symbol:x", false),
        ("LARDER.SET own:k 1 TAG symbol:x internal:x", true),
        ("LARDER.SET own:k 1 EX 10 tag internal:x", true),
        ("LARDER.FILL own:k 0 1 PX 10 TAG internal:x", true),
        // The word behind an option is its value, whatever it reads as.
        ("LARDER.SET own:k 1 EX TAG TAG internal:x", true),
    ] {
        ask(&mut client, "MULTI");
        let queued = ask(&mut client, call);
        assert_eq!(error(&queued).starts_with("NOPERM"), is_refused, "{call}: {queued:?}");
        let ended = ask(&mut client, "EXEC");
        assert_eq!(error(&ended).starts_with("EXECABORT"), is_refused, "{call}: {ended:?}");
    }
}

#[test]
fn who_only_listens_is_cut_off_within_a_second_and_told_nothing_more() {
    let guarded = Guarded::start(Allowances::default());
    guarded.put("ada", &["service"], &[]);
    let (revoked, expiring, other) =
        (guarded.token("ada", None), guarded.token("ada", Some(Duration::from_secs(60))), guarded.token("ada", None));
    let listening = |token: &Token| {
        let mut client = guarded.client(token);
        assert_eq!(ask(&mut client, "HELLO 3").error(), None);
        assert_eq!(ask(&mut client, "PSUBSCRIBE *").error(), None);
        client
    };
    let (mut first, mut second, mut stays) = (listening(&revoked), listening(&expiring), listening(&other));
    let begun = Instant::now();
    guarded.revoke(&revoked);
    assert_eq!(first.until_closed().expect("it is closed"), b"");
    assert!(begun.elapsed() < Duration::from_millis(1_500), "{:?}", begun.elapsed());
    guarded.clock.advance(Duration::from_secs(61));
    assert_eq!(second.until_closed().expect("it is closed"), b"");
    // An expired one is over for the next command, without anybody's looking: nothing changed that would have a number.
    let mut says = guarded.client(&other);
    assert_eq!(ask(&mut says, "PUBLISH news 1").integer(), Some(1));
    let pushed = stays.reply().expect("it is told").raw;
    assert!(pushed.escape_ascii().to_string().contains("news"));
}
