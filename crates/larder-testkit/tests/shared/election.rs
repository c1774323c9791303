//! Duties among instances over one Redis: claimed by one, taken over when it is not heard of, and recorded under the newest token alone.
//! The script in Redis decides as the rules in the library do.

use std::time::Duration;

use bytes::Bytes;
use larder::election::{Claim, Claimed, Duty, Remembered, Renewed};
use larder::{Clock, Larder, Mutation};

use crate::support::*;

const LEASE: Duration = Duration::from_secs(60);

fn after(done_ms: u64) -> Remembered {
    Remembered { done_ms, ..Remembered::default() }
}

/// What an answer says but for its token, which goes with the clock of whoever drew it.
fn said(claimed: Claimed) -> String {
    match claimed {
        Claimed::Won(Claim { due_ms, scheduled, attempt, .. }) => format!("won {due_ms} {scheduled} {attempt}"),
        other => format!("{other:?}"),
    }
}

async fn standing(duty: &Duty, claims: &[u64]) -> String {
    let standing = duty.standing().await.expect("an answer");
    // Tokens as the how many-th claim they are of.
    let place = |token: u64| claims.iter().position(|known| *known == token);
    let held = standing.held.map(|held| (place(held.token), held.due_ms, held.scheduled, held.by));
    format!("{} {} {} {:?} {held:?}", standing.enrolled, standing.done_ms, standing.paused, place(standing.newest))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_decides_as_a_process_alone_does() {
    let Some(server) = server() else { return };
    let (seed, shared) = (seed(), instance(&server.url()).await);
    let alone = Larder::builder().clock(Clock::system()).build().await.expect("a cache");
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..12 {
        let name = format!("duty-{round}");
        let sides = [shared.duty(&name).expect("a name"), alone.duty(&name).expect("a name")];
        let mut claims: [Vec<Claim>; 2] = [Vec::new(), Vec::new()];
        let mut tokens: [Vec<u64>; 2] = [Vec::new(), Vec::new()];
        let mut trace = Vec::new();
        if round % 4 > 0 {
            for duty in &sides {
                duty.enrol("a", after(20), 30).await.expect("an answer");
            }
        }
        for step in 0..40 {
            let (kind, due_ms, flag) = (random.u8(..10), random.u64(1..40) * 10, random.bool());
            // One that is over at once, or goes on for longer than this test.
            let lease = if random.u8(..3) == 0 { Duration::ZERO } else { LEASE };
            let pick = random.usize(..8);
            let record = Bytes::from(format!("record {step}"));
            let mut answers = Vec::new();
            for (side, duty) in sides.iter().enumerate() {
                let claim = claims[side].len().checked_sub(1).map(|last| claims[side][last.saturating_sub(pick)]);
                answers.push(match (kind, claim) {
                    (0, _) => {
                        let known = Remembered { paused: pick == 0, ..after(due_ms / 2) };
                        format!("{:?}", duty.enrol(if flag { "a" } else { "b" }, known, due_ms).await.is_ok())
                    }
                    (1, _) => format!("{:?}", duty.pause(flag, due_ms).await.is_ok()),
                    (2, _) => {
                        let token = duty.pass(due_ms, record.clone()).await.expect("an answer");
                        tokens[side].extend(token);
                        format!("passed {}", token.is_some())
                    }
                    (3, Some(claim)) => format!("{:?}", duty.renew(&claim, lease).await.expect("an answer")),
                    (4, Some(claim)) => format!("{:?}", duty.cancel(claim.token).await.expect("an answer")),
                    (5 | 6, Some(claim)) => format!("{:?}", duty.finish(&claim, record.clone()).await.expect("an answer")),
                    _ => {
                        let claimed = duty.claim(due_ms, flag, "me", lease).await.expect("an answer");
                        if let Claimed::Won(claim) = claimed {
                            claims[side].push(claim);
                            tokens[side].push(claim.token);
                        }
                        said(claimed)
                    }
                });
                answers.push(standing(duty, &tokens[side]).await);
            }
            trace.push(format!("{kind} {due_ms} {flag} {lease:?}: {answers:?}"));
            assert_eq!(answers[..2], answers[2..], "LARDER_SEED={seed} round {round}: {trace:#?}");
        }
        let [a, b] = [sides[0].records().await.expect("records"), sides[1].records().await.expect("records")];
        let bytes = |records: &[(u64, Bytes)]| records.iter().map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>();
        assert_eq!(bytes(&a), bytes(&b), "LARDER_SEED={seed}");
        assert!(a.windows(2).all(|pair| pair[0].0 != pair[1].0) && tokens[0].windows(2).all(|pair| pair[0] < pair[1]), "tokens only grow");
    }
    shared.close().await.expect("it closes");
    alone.close().await.expect("it closes");
}

/// Two instances of which the first loses its lease and finishes all the same. Returns what was recorded.
async fn taken_over(server: &larder_testkit::redis::Server, mutation: Option<Mutation>) -> Vec<Bytes> {
    let mut instances = Vec::new();
    for _ in 0..2 {
        let builder = mutation.into_iter().fold(builder(&server.url()), larder::Builder::mutation);
        instances.push(builder.build().await.expect("an instance opens"));
    }
    let [a, b] = [0, 1].map(|number: usize| instances[number].duty("nightly").expect("a name"));
    a.enrol("0 2 * * *", after(10), 10).await.expect("an answer");
    let Claimed::Won(first) = a.claim(20, true, "a", Duration::ZERO).await.expect("an answer") else { panic!("it is free") };
    let Claimed::Won(second) = b.claim(20, true, "b", LEASE).await.expect("an answer") else { panic!("the lease is over") };
    assert!(second.token > first.token && second.attempt == 2);
    assert_eq!(a.claim(20, true, "a", LEASE).await.expect("an answer"), Claimed::Held);
    assert_eq!(a.standing().await.expect("an answer").held.expect("somebody is at it").by, "b");
    assert_eq!(a.renew(&first, LEASE).await.expect("an answer"), Renewed::Lost);
    a.finish(&first, Bytes::from_static(b"a")).await.expect("an answer");
    assert!(b.finish(&second, Bytes::from_static(b"b")).await.expect("an answer"));
    assert!(b.finish(&second, Bytes::from_static(b"b")).await.expect("an answer"), "it may be asked again");
    a.finish(&first, Bytes::from_static(b"a")).await.expect("an answer");
    let recorded = b.records().await.expect("records").into_iter().map(|(_, bytes)| bytes).collect();
    for instance in instances {
        instance.close().await.expect("it closes");
    }
    recorded
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lost_its_lease_records_nothing() {
    let Some(server) = server() else { return };
    assert_eq!(taken_over(&server, None).await, [Bytes::from_static(b"b")]);
}

/// The check above would see nothing if it could not see this.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_token_it_is_recorded_twice() {
    let Some(server) = server() else { return };
    assert!(taken_over(&server, Some(Mutation::FinishUnfenced)).await.len() > 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_go_on_when_redis_has_lost_them() {
    let Some(server) = server() else { return };
    let larder = instance(&server.url()).await;
    let duty = larder.duty("nightly").expect("a name");
    duty.enrol("0 2 * * *", after(10), 10).await.expect("an answer");
    let Claimed::Won(first) = duty.claim(20, true, "a", LEASE).await.expect("an answer") else { panic!("it is free") };
    server.command(&["FLUSHALL"]).expect("an answer");
    until("the log is taken up anew", || connected(&larder)).await;
    assert!(!duty.standing().await.expect("an answer").enrolled);
    assert_eq!(duty.claim(20, true, "a", LEASE).await.expect("an answer"), Claimed::Over, "nobody has said what is over");
    duty.enrol("0 2 * * *", after(10), 30).await.expect("an answer");
    assert_eq!(duty.standing().await.expect("an answer").done_ms, 10, "what this instance knew");
    let Claimed::Won(second) = duty.claim(20, true, "a", LEASE).await.expect("an answer") else { panic!("it is not known any more") };
    assert!(second.token > first.token);
    assert!(!duty.finish(&first, Bytes::from_static(b"a")).await.expect("an answer"));
    larder.close().await.expect("it closes");
}
