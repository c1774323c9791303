//! Read-modify-write between instances over one Redis: a change made on one is not lost to a change made on another.

use larder::{Answer, Builder, Change, Item, Larder, Life, Mutation, Names};
use larder_testkit::redis::Server;

use crate::support::*;

const INSTANCES: usize = 2;
const TASKS: usize = 4;
const CHANGES: u64 = 50;

fn number(there: Option<&Answer<bytes::Bytes>>) -> u64 {
    there.map_or(0, |answer| std::str::from_utf8(&answer.value).expect("digits").parse().expect("a number"))
}

fn one_more(there: Option<&Answer<bytes::Bytes>>) -> (Change, u64) {
    let next = number(there) + 1;
    (Change::Value(next.to_string().into()), next)
}

async fn open(server: &Server, with: impl Fn(Builder) -> Builder) -> Vec<Larder> {
    let mut instances = Vec::new();
    for _ in 0..INSTANCES {
        instances.push(with(builder(&server.url())).build().await.expect("an instance opens"));
    }
    instances
}

/// Counts on all instances at once, and some puts of other keys beside it. Returns what the changes returned, sorted.
async fn count(instances: &[Larder]) -> Vec<u64> {
    let tasks: Vec<_> = instances
        .iter()
        .flat_map(|larder| (0..TASKS).map(move |task| (larder.clone(), task)))
        .map(|(larder, task)| {
            tokio::spawn(async move {
                let (raw, mut returned) = (larder.raw(), Vec::new());
                for n in 0..CHANGES {
                    returned.push(raw.change("n:counter", one_more).await.expect("Redis is there").outcome);
                    if n % 8 == 0 {
                        // Another group for the log, whose refused appends must leave the others of the group alone.
                        raw.put(format!("n:beside:{task}"), bytes::Bytes::from("x")).await.expect("Redis is there");
                    }
                }
                returned
            })
        })
        .collect();
    let mut returned = Vec::new();
    for task in tasks {
        returned.extend(task.await.expect("no task panics"));
    }
    returned.sort_unstable();
    returned
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_increment_of_a_counter_is_lost_between_instances() {
    let Some(server) = server() else { return };
    let instances = open(&server, |builder| builder).await;
    let all = (INSTANCES * TASKS) as u64 * CHANGES;
    assert_eq!(count(&instances).await, (1..=all).collect::<Vec<_>>());
    let last = instances[0].raw().change("n:counter", |there| (Change::Remove, number(there))).await.unwrap();
    assert_eq!(last.outcome, all, "whichever instance looks");
    assert_eq!(instances[1].raw().change("n:counter", one_more).await.unwrap().outcome, 1, "the removal counts, too");
}

/// The check above would see nothing if it could not see this.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_guard_increments_are_lost() {
    let Some(server) = server() else { return };
    let instances = open(&server, |builder| builder.mutation(Mutation::ChangeWithoutGuard)).await;
    let returned = count(&instances).await;
    assert!(returned.windows(2).any(|pair| pair[0] == pair[1]), "two changes were shown the same number");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_instance_did_in_between_is_not_undone() {
    let Some(server) = server() else { return };
    let instances = open(&server, |builder| builder).await;
    let [a, b] = [&instances[0], &instances[1]];
    let raw = a.raw();
    for round in 0..20 {
        let key = format!("n:{round}");
        raw.put(&key, Item::new("7".into()).tag("t")).await.unwrap();
        // Whether this instance has heard of it by then or not.
        let token = raw.begin_fill(&key);
        b.invalidate(Names::new().tag("t")).await.unwrap();
        let mut shown = Vec::new();
        let changed = raw.change(&key, |there| {
            shown.push(number(there));
            one_more(there)
        });
        assert_eq!(changed.await.unwrap().outcome, 1, "the number was invalidated before the change began, on {shown:?}");
        assert!(raw.put_since(&key, token, Item::new("old".into()).tag("t")).await.unwrap().is_none());
        let there = b.raw().change(&key, |there| (Change::Keep, number(there))).await.unwrap();
        assert_eq!(there.outcome, 1, "what was dropped did no harm to it, here or in Redis");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_moment_reaches_the_copies_of_other_instances() {
    let Some(server) = server() else { return };
    let instances = open(&server, |builder| builder).await;
    let [a, b] = [instances[0].raw(), instances[1].raw()];
    let put = a.put("n:k", Item::new(bytes::Bytes::from("v")).forever()).await.unwrap();
    instances[1].reach(put.position(), LONG).await.unwrap();
    assert_eq!(b.lookup("n:k").await.unwrap().into_answer().expect("it is there").expires_at(), None);
    let end = instances[0].clock().refresh() + 500_000;
    let receipt = a.change("n:k", |_| (Change::Life(Life::Until(end)), ())).await.unwrap().receipt.expect("it is an append");
    instances[1].reach(receipt.position(), LONG).await.unwrap();
    let there = b.lookup("n:k").await.unwrap().into_answer().expect("the value stays");
    assert_eq!((&there.value[..], there.expires_at()), (&b"v"[..], Some(end)));
    let life = server.command(&["PTTL", "larder:e:n:k"]).unwrap().number().unwrap();
    assert!((400_000..=500_000).contains(&life), "{life} ms");
    let far = a.put("n:far", Item::new(bytes::Bytes::from("v")).expires_at(u64::MAX / 2)).await;
    assert!(far.is_ok(), "a moment that no store knows is as good as any: {far:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_log_a_change_is_refused_and_one_that_keeps_is_not() {
    let Some(server) = server() else { return };
    let larder = instance(&server.url()).await;
    larder.raw().put("n:k", bytes::Bytes::from("7")).await.unwrap();
    server.kill();
    until("the loss is noticed", || !connected(&larder)).await;
    let kept = larder.raw().change("n:k", |there| (Change::Keep, number(there))).await.unwrap();
    assert_eq!(kept.outcome, 7);
    let error = larder.raw().change("n:k", one_more).await.unwrap_err();
    assert_eq!(error.kind(), larder::ErrorKind::LogUnavailable, "{error}");
    assert_eq!(number(larder.raw().peek("n:k").await.unwrap().as_ref()), 7);
}
