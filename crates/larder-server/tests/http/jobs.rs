//! Jobs over HTTP: how they stand, running one, and what is refused.

use larder_testkit::wait;
use serde_json::json;

use crate::client::{PATIENCE, Server};

#[test]
fn a_job_is_run_watched_and_paused() {
    let server = Server::plain();
    let get = |path: &str| server.request("GET", path).send();
    let post = |path: &str| server.request("POST", path).send();
    let listed = get("/v1/jobs").json();
    assert_eq!((&listed["jobs"][0]["name"], &listed["jobs"][0]["schedule"]), (&json!("cleanup"), &json!("0 0 29 2 *")));
    assert_eq!((&listed["jobs"][0]["last"], &listed["jobs"][0]["running"]), (&json!(null), &json!(null)));

    let begun = post("/v1/jobs/cleanup/run");
    assert_eq!(begun.status, 202, "{begun:?}");
    let run = format!("/v1/jobs/cleanup/runs/{}", begun.json()["run"]);
    assert!(wait::until(PATIENCE, || get(&run).json()["outcome"] == "ok"), "{:?}", get(&run));
    let told = get(&run).json();
    assert_eq!((&told["scheduled"], &told["attempts"], &told["result"]["swept"]["examined"]), (&json!(false), &json!(1), &json!(0)));
    assert_eq!(told["by"], json!(null), "nobody has to say who they are here");
    let shown = get("/v1/jobs/cleanup").json();
    assert_eq!((&shown["runs"][0]["id"], shown["next_ms"].as_array().map(Vec::len)), (&begun.json()["run"], Some(5)));
    assert_eq!((&shown["missed"], &shown["overlap"]), (&json!("skip"), &json!("skip")));
    assert_eq!(post(&format!("{run}/cancel")).problem(404, "not-found")["status"], 404);

    let metrics = || String::from_utf8(get("/metrics").body).expect("text");
    // A run is counted when all of it is done, and what came of it is told before.
    assert!(wait::until(PATIENCE, || metrics().contains("larder_job_runs_total{name=\"cleanup\",outcome=\"ok\"} 1")), "{}", metrics());
    let metrics = metrics();
    for line in [
        "larder_job_runs_total{name=\"cleanup\",outcome=\"failed\"} 0",
        "larder_job_running{name=\"cleanup\"} 0",
        "larder_job_failing{name=\"cleanup\"} 0",
    ] {
        assert!(metrics.contains(line), "{line}");
    }
    assert!(!metrics.contains("larder_job_last_success_timestamp_seconds{name=\"cleanup\"} 0"));

    let paused = post("/v1/jobs/cleanup/pause").json();
    assert_eq!((&paused["paused"], &paused["next_ms"]), (&json!(true), &json!([])));
    assert_eq!(post("/v1/jobs/cleanup/resume").json()["paused"], json!(false));

    for path in ["/v1/jobs/clenup", "/v1/jobs/cleanup/runs/1", "/v1/jobs/cleanup/runs/first", "/v1/jobs/%2e%2e/runs/1"] {
        get(path).problem(404, "not-found");
    }
    post("/v1/jobs/backup/run").problem(404, "not-found");
    assert!(wait::until(PATIENCE, || get("/health").json()["checks"].to_string().contains("scheduler")), "{:?}", get("/health"));
}
