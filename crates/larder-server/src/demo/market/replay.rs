//! The endless sequence of bars that a feed plays, in the order of time.

use std::sync::Arc;

use super::{Bar, Market, turned};

/// Plays a market's bars from some place on, turning round at either end.
///
/// Several feeds may share a market: each takes the symbols of its own lane, and within a lane the order of time holds.
#[derive(Clone, Debug)]
pub struct Replay {
    market: Arc<Market>,
    place: usize,
    lane: usize,
    lanes: usize,
}

impl Replay {
    /// Plays the symbols of `lane` (of `lanes`) from the bar at `place` in [`Market::bars`].
    ///
    /// # Panics
    /// If a lane would have no symbol, as it could then never play a bar.
    pub fn new(market: Arc<Market>, place: usize, lane: usize, lanes: usize) -> Self {
        assert!(lane < lanes && lanes <= market.symbols().len(), "each of the {lanes} lanes has a symbol");
        Self { market, place, lane, lanes }
    }
}

impl Iterator for Replay {
    type Item = Bar;

    fn next(&mut self) -> Option<Bar> {
        loop {
            let bars = self.market.bars();
            let bar = bars[turned(self.place, bars.len())];
            self.place += 1;
            if bar.symbol.index() % self.lanes == self.lane {
                return Some(bar);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The world numbers arriving bars and reads their closes back by number: the two must agree for ever.
    #[test]
    fn a_symbols_bars_arrive_in_the_order_of_their_numbers() {
        let market = Arc::new(Market::bundled().expect("the bundled files parse"));
        let mut arrived = vec![0_u64; market.symbols().len()];
        for bar in Replay::new(Arc::clone(&market), 0, 0, 1).take(3 * market.bars().len() + 7) {
            let number = &mut arrived[bar.symbol.index()];
            *number += 1;
            assert_eq!(market.close(bar.symbol, *number), bar.close, "bar {number} of {}", market.name(bar.symbol));
        }
    }

    #[test]
    fn lanes_share_the_bars_out() {
        let market = Arc::new(Market::bundled().expect("the bundled files parse"));
        let start = market.place_after_days(5_000);
        let day = market.bars()[start].day;
        let mut symbols: Vec<_> = (0..4)
            .flat_map(|lane| Replay::new(Arc::clone(&market), start, lane, 4).take_while(|bar| bar.day == day))
            .map(|bar| bar.symbol)
            .collect();
        symbols.sort_unstable();
        assert_eq!(symbols, market.symbols().collect::<Vec<_>>());
    }
}
