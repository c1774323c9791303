//! How a server looks after itself, as is seen at its doors: cleaning up, maintenance, warming up, and the memory that it may have.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use larder::{Clock, Larder, Policy, WarmUp};
use larder_server::promise::BudgetSettings;
use larder_server::promise::readings::Readings;
use larder_server::settings::{HttpLimits, UpkeepSettings};
use larder_testkit::wait;
use serde_json::{Value, json};

use crate::client::Server;
use crate::fake_tier::FakeTier;
use crate::wire::{Client, words};

const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_clean_up_is_begun_looked_at_and_says_what_it_gave_back() {
    let clock = Clock::manual();
    let policy = Policy::default().ttl(Duration::from_secs(1));
    let builder = Larder::builder().clock(clock.clone()).sweep_every(Duration::from_secs(86_400)).namespace("bars", policy);
    let server = Server::start(builder, HttpLimits::default());
    assert_eq!(server.request("GET", "/v1/cleanup").send().json(), json!({ "running": null, "last": null }));
    let bars = server.larder.namespace::<u64>("bars").expect("a namespace").blocking();
    for n in 0..300u64 {
        bars.put(n.to_string(), n).expect("it is put");
    }
    clock.advance(Duration::from_secs(2));
    let begun = server.request("POST", "/v1/cleanup").send();
    assert_eq!(begun.status, 202);
    let look = || server.request("GET", "/v1/cleanup").send().json();
    assert!(wait::until(LONG, || look()["running"].is_null()));
    let last = look()["last"].clone();
    assert_eq!((&last["swept"]["expired"], &last["cancelled"], &last["failed"]), (&json!(300), &json!(false), &json!([])));
    assert_eq!(last["swept"]["namespaces"][0]["name"], "bars");
    assert_eq!(last["total"]["entries"], 300);
    assert_eq!(server.request("DELETE", "/v1/cleanup").send().status, 202, "there is nothing to stop, which is as asked");
}

#[test]
fn under_maintenance_writes_are_refused_and_everything_else_goes_on() {
    let server = Server::plain();
    let put = || server.request("PUT", "/v1/entries/n:k").header("content-type", "application/json").body("1").send();
    assert_eq!(put().status, 204);
    let ask = |method: &str, body: Option<serde_json::Value>| {
        let request = server.request(method, "/v1/maintenance");
        body.iter().fold(request, |request, body| request.header("content-type", "application/json").body(body.to_string())).send()
    };
    let on = ask("POST", Some(json!({ "for": "30m", "reason": "a new disk" }))).json();
    assert_eq!((&on["on"], &on["reason"], &on["writes_under_way"]), (&json!(true), &json!("a new disk"), &json!(0)));
    let refused = put();
    refused.problem(503, "maintenance");
    assert_eq!(refused.header("retry-after"), Some("10"));
    let many = json!({ "entries": [{ "key": "n:k", "value": "2" }] }).to_string();
    let many = server.request("POST", "/v1/entries/put").header("content-type", "application/json").body(many).send();
    assert_eq!(many.status, 503);
    assert_eq!(server.request("GET", "/v1/entries/n:k").send().status, 200);
    let text = |path: &str| String::from_utf8_lossy(&server.request("GET", path).send().body).into_owned();
    let told = || text("/health");
    assert!(wait::until(LONG, || told().contains("the server takes no writes for another")), "{}", told());
    assert_eq!(server.request("GET", "/readyz").send().status, 200, "it answers reads");
    assert!(text("/metrics").contains("\nlarder_maintenance 1\n"));
    let gone = server.request("POST", "/v1/invalidations").header("content-type", "application/json").body(r#"{"keys":["n:k"]}"#).send();
    assert_eq!(gone.status, 200);
    assert_eq!(server.request("GET", "/v1/entries/n:k").send().status, 404);
    for bad in [json!({ "for": "8d" }), json!({ "for": "soon" }), json!({ "reason": "x".repeat(2_000) })] {
        assert_eq!(ask("POST", Some(bad.clone())).status, 400, "{bad}");
    }
    assert_eq!(ask("DELETE", None).json()["on"], false);
    assert_eq!((put().status, ask("GET", None).json()["on"].clone()), (204, json!(false)));
}

#[test]
fn clients_of_redis_are_told_to_try_again_under_maintenance() {
    let server = Server::looked_after(Larder::builder(), UpkeepSettings::default());
    let mut client = Client::connect(server.resp.expect("it listens")).expect("it listens");
    let mut ask = |text: &str| client.ask(&words(text)).expect("it answers").value;
    for key in ["a", "b", "n"] {
        assert_eq!(ask(&format!("SET {key} 1")).error(), None);
    }
    assert_eq!(server.post("/v1/maintenance", json!({ "for": "30m" })).status, 200);
    let writes = ["SET a 2", "SET c 1 EX 10", "MSET a 2 c 1", "INCR n", "APPEND a 2", "EXPIRE a 10", "LARDER.SET a 2 TAG t"];
    for write in writes {
        let told = ask(write);
        let text = told.error().map(|text| text.escape_ascii().to_string()).unwrap_or_else(|| panic!("{write}: {told:?}"));
        assert!(
            text.starts_with("TRYAGAIN ") && text.contains("under maintenance") && text.contains("nothing was changed"),
            "{write}: {text}"
        );
    }
    for (key, value) in [("a", "1"), ("n", "1")] {
        assert_eq!(ask(&format!("GET {key}")).bytes(), Some(value.as_bytes()), "nothing was, and it is read");
    }
    assert_eq!(ask("GET c").bytes(), None);
    assert_eq!((ask("DEL a").error(), ask("GET a").bytes()), (None, None), "what is removed is removed");
    assert_eq!(server.request("DELETE", "/v1/maintenance").send().status, 200);
    assert_eq!((ask("SET a 2").error(), ask("GET a").bytes()), (None, Some(b"2".as_slice())));
}

#[test]
fn a_server_is_ready_once_memory_is_warm_if_that_is_waited_for() {
    let folder = tempfile::tempdir().expect("temporary files can be written");
    let tier = Arc::new(FakeTier::default());
    tier.flushes.add_permits(9);
    let cache = |tier: &Arc<FakeTier>| {
        let how = WarmUp::new().file(folder.path().join("hot-keys"));
        Larder::builder().backing_tier(tier.clone()).backing_timeout(Duration::from_secs(60)).warm_up(how)
    };
    let mut first = Server::looked_after(cache(&tier), UpkeepSettings::default());
    for n in 0..20 {
        assert_eq!(first.put(&format!("bars:{n}")).body("1").send().status, 204);
    }
    first.begin_stop();
    first.wait().expect("it ends in order");
    let holds = Arc::new(FakeTier::default());
    holds.reads.try_acquire().expect("there is one").forget();
    for (ready_waits, status) in [(true, 503), (false, 200)] {
        let server = Server::looked_after(cache(&holds), UpkeepSettings { ready_waits, ..UpkeepSettings::default() });
        assert!(wait::until(LONG, || server.request("GET", "/startupz").send().status == 200));
        let ready = || server.request("GET", "/readyz").send().status;
        assert_eq!(ready(), status, "ready_waits = {ready_waits}");
        let verbose = server.request("GET", "/readyz?verbose").header("accept", "application/json").send().json();
        let check = verbose["checks"].as_array().and_then(|checks| checks.iter().find(|check| check["name"] == "warm_up"));
        let message = check.map(|check| check["message"].as_str().unwrap_or_default().to_owned());
        assert_eq!(message.as_deref(), ready_waits.then_some("memory is being warmed up: 0 of 20 keys were asked for"), "{verbose}");
        assert_eq!(server.request("GET", "/readyz?exclude=warm_up").send().status, 200);
        assert_eq!(server.request("GET", "/livez").send().status, 200);
        holds.reads.add_permits(1);
        assert!(wait::until(LONG, || ready() == 200), "it is warm");
        holds.reads.try_acquire().expect("nobody reads any more").forget();
    }
}

const MIB: u64 = 1 << 20;

/// What says how much memory this process may have: a control group of the machine, or files that look like one.
struct Group {
    readings: Readings,
    /// Where its files are.
    files: PathBuf,
    /// The group that the process was in, if it was moved.
    before: Option<PathBuf>,
    _root: Option<tempfile::TempDir>,
}

impl Group {
    /// One that the kernel keeps; `None`, said on the standard error, where none may be made.
    fn of_the_machine(limit: u64) -> Option<Group> {
        let mounted = Path::new("/sys/fs/cgroup");
        let files = mounted.join(format!("larder-test-{}", std::process::id()));
        let skip = |why: String| {
            eprintln!("skipped: no control group of version 2 with a limit of memory can be made here: {why}");
            None
        };
        if let Err(error) = fs::create_dir(&files) {
            return skip(error.to_string());
        }
        // The kernel puts it there; a folder that is only a folder has none.
        if !files.join("memory.max").exists() {
            fs::remove_dir(&files).expect("nothing is in it");
            return skip(format!("{} has no memory.max", mounted.display()));
        }
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let before = own.lines().find_map(|line| line.strip_prefix("0::/")).map(|path| mounted.join(path));
        // Without swap, which would keep the kernel from killing what is too large.
        let kept = fs::write(files.join("memory.max"), limit.to_string())
            .and_then(|()| fs::write(files.join("memory.swap.max"), "0"))
            .and_then(|()| fs::write(files.join("cgroup.procs"), std::process::id().to_string()));
        match kept {
            Ok(()) => Some(Group { readings: Readings::system(), files, before, _root: None }),
            Err(error) => {
                fs::remove_dir(&files).expect("nothing is in it");
                skip(error.to_string())
            }
        }
    }

    /// One that is made up around what this process really has.
    fn made_up(limit: u64) -> Group {
        let root = tempfile::tempdir().expect("temporary files can be written");
        let files = root.path().join("sys/fs/cgroup/pod");
        for folder in [&files, &root.path().join("proc/self")] {
            fs::create_dir_all(folder).expect("a folder");
        }
        std::os::unix::fs::symlink("/proc/self/status", root.path().join("proc/self/status")).expect("a link");
        fs::write(root.path().join("proc/self/cgroup"), "0::/pod\n").expect("a file");
        fs::write(files.join("memory.max"), limit.to_string()).expect("a file");
        let group = Group { readings: Readings::below(root.path()), files, before: None, _root: Some(root) };
        group.press(0.0);
        group
    }

    /// Has it say that somebody waits for memory.
    fn press(&self, some: f64) {
        let line = |kind: &str, share: f64| format!("{kind} avg10={share:.2} avg60=0.00 avg300=0.00 total=0\n");
        // In the place of what is there: who reads meanwhile has the one or the other.
        let beside = self.files.join("memory.pressure.new");
        fs::write(&beside, line("some", some) + &line("full", 0.0)).expect("a file");
        fs::rename(&beside, self.files.join("memory.pressure")).expect("a file");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let back = fs::write(before.join("cgroup.procs"), std::process::id().to_string());
            back.and_then(|()| fs::remove_dir(&self.files)).unwrap_or_else(|error| eprintln!("{}: {error}", self.files.display()));
        }
    }
}

fn resident() -> u64 {
    Readings::system().resident().expect("it is told here")
}

/// Fills pools that might have twice what the process may, at 80 MiB a second. Returns the most that the process had.
fn fill(group: &Group, limit: u64) -> (Server, u64) {
    let upkeep = UpkeepSettings {
        budget: BudgetSettings { bytes: None, obeys_group: true },
        readings: group.readings.clone(),
        ..UpkeepSettings::default()
    };
    let server = Server::looked_after(Larder::builder().memory(2 * limit).index_bytes(1 << 20), upkeep);
    let blobs = server.larder.namespace::<Vec<u8>>("blobs").expect("a namespace").blocking();
    let pace = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let mut most = 0;
    for n in 0..(2 * limit / MIB) * 8 {
        blobs.put(n.to_string(), vec![7; 128 << 10]).expect("it is put");
        if n % 32 == 31 {
            most = most.max(resident());
            pace.block_on(wait::pass(Duration::from_millis(50)));
        }
    }
    (server, most)
}

fn process(server: &Server) -> Value {
    server.request("GET", "/v1/stats").send().json()["server"]["process"].clone()
}

#[test]
fn a_process_in_a_control_group_stays_below_what_that_may_have() {
    let limit = resident() + 256 * MIB;
    let Some(group) = Group::of_the_machine(limit) else { return };
    let (server, most) = fill(&group, limit);
    println!("{} of {} MiB", most / MIB, limit / MIB);
    let told = process(&server);
    assert!(most < limit && told["share"].as_f64().is_some_and(|share| share < 0.6), "{most} of {limit}: {told}");
}

#[test]
fn pools_shrink_before_a_limit_is_reached_and_where_somebody_waits_for_memory() {
    let limit = resident() + 256 * MIB;
    let group = Group::made_up(limit);
    let (server, most) = fill(&group, limit);
    println!("{} of {} MiB", most / MIB, limit / MIB);
    let told = process(&server);
    assert_eq!(told["group_limit"].as_u64(), Some(limit), "{told}");
    assert!(most < limit && most > limit / 2 && told["share"].as_f64().is_some_and(|share| share < 0.6), "{most} of {limit}: {told}");
    let capacity = || server.larder.stats().memory.capacity;
    let before = capacity();
    group.press(40.0);
    assert!(wait::until(LONG, || capacity() < before - 16 * MIB), "{} of {before}, {}", capacity(), process(&server));
    assert_eq!(process(&server)["why"], "pressed");
    group.press(0.0);
    // A limit that is lifted gives all of it back.
    fs::write(group.files.join("memory.max"), "max\n").expect("a file");
    assert!(wait::until(2 * LONG, || capacity() == 2 * limit), "{}", process(&server));
}
