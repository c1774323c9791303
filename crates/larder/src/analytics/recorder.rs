//! Cuts the life of a cache into windows.

use super::{Rollup, Window};
use crate::cache::Larder;
use crate::metrics::NamespaceStats;
use crate::stats::Stats;

/// Cuts the life of a cache into windows: each [`cut`](Self::cut) is what happened since the one before. Several recorders of a cache
/// do not disturb each other, nor the counters they read, except for the [sketches](super::Sketches), which are given to whoever comes first.
///
/// The measures of the cache as a whole are sums, by these names: `appends`, `syncs`.
pub struct Recorder {
    larder: Larder,
    before: Stats,
    begun_ms: u64,
}

impl Recorder {
    /// Begins now.
    pub fn new(larder: &Larder, now_ms: u64) -> Self {
        Recorder { larder: larder.clone(), before: larder.stats(), begun_ms: now_ms }
    }

    /// What happened since the last cut. `now_ms` is the time of day in milliseconds since 1970; a clock that was set back in between makes
    /// a window without length.
    pub fn cut(&mut self, now_ms: u64) -> Rollup {
        let now = self.larder.stats();
        let mut rollup = Rollup { start_ms: self.begun_ms, end_ms: now_ms.max(self.begun_ms), samples: 1, ..Rollup::default() };
        for stats in &now.namespaces {
            let before = self.before.namespaces.iter().find(|before| before.name == stats.name);
            let window = Window::between(before, stats);
            if window != Window::default() {
                rollup.namespaces.insert(stats.name.clone(), window);
            }
        }
        let sums = |stats: &Stats| [("appends", stats.log.appends), ("syncs", stats.log.syncs)];
        for ((name, value), (_, before)) in sums(&now).into_iter().zip(sums(&self.before)) {
            if value > before {
                rollup.measures.insert(name.into(), value - before);
            }
        }
        (self.before, self.begun_ms) = (now, now_ms);
        rollup
    }
}

impl Window {
    fn between(before: Option<&NamespaceStats>, now: &NamespaceStats) -> Self {
        let nothing = NamespaceStats::default();
        let since = now.since(before.unwrap_or(&nothing));
        Window {
            counts: since.counts,
            entries: now.entries,
            bytes: now.bytes,
            entries_sum: now.entries,
            bytes_sum: now.bytes,
            hit_memory: since.hit_memory,
            hit_backing: since.hit_backing,
            miss: since.miss,
            load: since.load,
            ..Window::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cut_is_what_happened_since_the_one_before() {
        let larder = Larder::builder().build().await.unwrap();
        let numbers = larder.namespace::<u32>("numbers").unwrap();
        let mut recorder = Recorder::new(&larder, 1_000);
        numbers.put("a", 1).await.unwrap();
        assert!(numbers.get("a").await.unwrap().is_some());
        let first = recorder.cut(61_000);
        assert_eq!((first.start_ms, first.end_ms, first.samples), (1_000, 61_000, 1));
        assert_eq!((first.namespaces["numbers"].counts.puts, first.namespaces["numbers"].counts.hits_memory), (1, 1));
        assert_eq!(first.measures["appends"], 1);
        assert!(numbers.get("b").await.unwrap().is_none());
        let second = recorder.cut(121_000);
        assert_eq!((second.namespaces["numbers"].counts.puts, second.namespaces["numbers"].counts.misses_absent), (0, 1));
        assert_eq!(second.namespaces["numbers"].entries, 1, "what is held counts, whatever happened");
        assert!(second.measures.is_empty());
        assert_eq!(recorder.cut(100_000).end_ms, 121_000, "a clock that was set back");
        larder.close().await.unwrap();
    }
}
