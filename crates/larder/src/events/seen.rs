//! Which events were carried out already. That one took effect the log remembers (`log/marks.rs`), also for other instances and
//! after a restart; that its handlers were told only this process knows. And the same event twice at the same time is one.

use std::collections::HashSet;

use parking_lot::Mutex;
use tokio::sync::Notify;
use xxhash_rust::xxh3::xxh3_128;

use super::event::Event;
use crate::log::{Mark, Marks};

/// See the head of this file.
#[derive(Default)]
pub(super) struct Seen {
    handled: Marks,
    under_way: Mutex<HashSet<Mark>>,
    ended: Notify,
}

/// Nobody else carries this event out meanwhile.
pub(super) struct UnderWay<'a> {
    seen: &'a Seen,
    mark: Mark,
}

/// How an event is known: by source and identifier. Every instance has to come to the same, so there is no secret in it; whoever
/// may send events can keep others' from taking effect anyhow, by sending them under the same source and identifier before.
pub(super) fn mark_of(event: &Event) -> Mark {
    // The length between them, so that no other pair reads the same.
    let length = (event.source().len() as u64).to_le_bytes();
    Mark(xxh3_128(&[&length, event.source().as_bytes(), event.id().as_bytes()].concat()))
}

impl Seen {
    /// Waits until nobody carries this event out: who comes second finds what the first has made of it.
    pub(super) async fn alone(&self, mark: Mark) -> UnderWay<'_> {
        loop {
            // Before the look, so that an end in between is not missed.
            let ended = self.ended.notified();
            if self.under_way.lock().insert(mark) {
                return UnderWay { seen: self, mark };
            }
            ended.await;
        }
    }

    pub(super) fn was_handled(&self, mark: Mark) -> bool {
        self.handled.has(mark)
    }

    /// Its handlers have managed it, or it is a dead letter.
    pub(super) fn handled(&self, mark: Mark) {
        self.handled.add(&[mark]);
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.seen.under_way.lock().remove(&self.mark);
        self.seen.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;

    fn mark(source: &str, id: &str) -> Mark {
        mark_of(&Event::new("t", Json::Null).from(source).with_id(id))
    }

    #[test]
    fn an_event_is_known_by_source_and_identifier() {
        assert_eq!(mark("ab", "c"), mark("ab", "c"));
        assert_ne!(mark("ab", "c"), mark("a", "bc"));
        assert_ne!(mark("ab", "c"), mark("ab", "d"));
        assert_eq!(
            mark("feed/nasdaq", "4711"),
            Mark(164_985_504_310_317_592_724_089_322_750_522_112_824),
            "what is in logs must stay readable"
        );
    }

    #[tokio::test]
    async fn the_second_waits_for_the_first() {
        let seen = Seen::default();
        let first = seen.alone(Mark(1)).await;
        let _another = seen.alone(Mark(2)).await;
        let mut second = Box::pin(seen.alone(Mark(1)));
        tokio::select! {
            biased;
            _ = &mut second => panic!("the first is not done"),
            () = std::future::ready(()) => {}
        }
        drop(first);
        second.await;
    }
}
