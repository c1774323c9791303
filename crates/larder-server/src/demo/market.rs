//! The market that the demo replays: real daily closes, in the order in which they happened.
//!
//! A [`Market`] never changes once it is read. What the demo calls "the bars that have arrived" is therefore only a
//! number for each symbol: bar 1, 2, 3... of its own series. When the data run out the replay turns round and walks
//! back, so that prices never jump:
//!
//! ```text
//! bar number   1  2  3  4  5  6  7  8 ...      (a symbol with four closes)
//! close        a  b  c  d  d  c  b  a ...
//! ```
//!
//! This module knows nothing of caches, features or time.

mod parse;
mod replay;

pub use parse::{Layout, MarketError, Table};
pub use replay::Replay;

use std::collections::BTreeMap;
use std::fmt;

use parse::{Fault, Quote};

/// Adjusted closes of twenty US stocks; see `data/README.md` for source and licence.
const TWENTY_STOCKS: &[u8] = include_bytes!("../../data/closes_20_us_stocks_daily.csv.gz");
/// Adjusted closes of GOOG and IBM; see `data/README.md` for source and licence.
const GOOG_IBM: &[u8] = include_bytes!("../../data/adjusted_closes_goog_ibm_daily.csv.gz");

/// The number of a symbol within its [`Market`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SymbolId(pub u16);

impl SymbolId {
    /// The place of the symbol in tables that have one row for each.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A calendar day, ordered; printed as `2013-03-01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day {
    year: u16,
    month: u8,
    day: u8,
}

impl Day {
    /// The day, if the calendar has it.
    pub fn new(year: u16, month: u8, day: u8) -> Option<Self> {
        let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let length = match month {
            1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
            4 | 6 | 9 | 11 => 30,
            2 if leap => 29,
            2 => 28,
            _ => return None,
        };
        (1..=length).contains(&day).then_some(Self { year, month, day })
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

/// One close of one symbol.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bar {
    /// Whose close it is.
    pub symbol: SymbolId,
    /// The day it closed.
    pub day: Day,
    /// The price, finite and above zero.
    pub close: f64,
}

/// Every close of every symbol, in the order of time.
#[derive(Debug)]
pub struct Market {
    symbols: Vec<String>,
    /// For each symbol its closes, oldest first.
    series: Vec<Vec<f64>>,
    /// All bars by day, then by symbol.
    bars: Vec<Bar>,
}

impl Market {
    /// The data that ship inside the program.
    ///
    /// # Errors
    /// Fails only if a bundled file was damaged when the program was built.
    pub fn bundled() -> Result<Self, MarketError> {
        let twenty = parse::inflate("closes_20_us_stocks_daily.csv.gz", TWENTY_STOCKS)?;
        let two = parse::inflate("adjusted_closes_goog_ibm_daily.csv.gz", GOOG_IBM)?;
        Self::from_tables(&[
            Table { file: "closes_20_us_stocks_daily.csv.gz", layout: Layout::ColumnPerSymbol, text: &twenty },
            Table { file: "adjusted_closes_goog_ibm_daily.csv.gz", layout: Layout::RowPerSymbol, text: &two },
        ])
    }

    /// Reads tables of closes. A symbol must come from one table only, with its days in order.
    ///
    /// # Errors
    /// The first cell that is not what its table promises, with file and line.
    pub fn from_tables(tables: &[Table<'_>]) -> Result<Self, MarketError> {
        let mut by_name: BTreeMap<String, Vec<(Day, f64)>> = BTreeMap::new();
        for table in tables {
            let mut of_table: BTreeMap<String, Vec<(Day, f64)>> = BTreeMap::new();
            for quote in parse::quotes(table)? {
                let Quote { symbol, day, close, line } = quote;
                let days = of_table.entry(symbol.to_owned()).or_default();
                if let Some(&(last, _)) = days.last()
                    && day <= last
                {
                    let fault = Fault::DayNotLater { symbol: symbol.to_owned(), day, last };
                    return Err(MarketError::new(table.file, line, fault));
                }
                days.push((day, close));
            }
            for (symbol, days) in of_table {
                if by_name.contains_key(&symbol) {
                    return Err(MarketError::new(table.file, 1, Fault::SymbolTwice(symbol)));
                }
                by_name.insert(symbol, days);
            }
        }
        if by_name.is_empty() {
            let file = tables.first().map_or("no table", |table| table.file);
            return Err(MarketError::new(file, 1, Fault::NoBars));
        }
        Ok(Self::assemble(by_name))
    }

    fn assemble(by_name: BTreeMap<String, Vec<(Day, f64)>>) -> Self {
        let mut market = Self { symbols: Vec::new(), series: Vec::new(), bars: Vec::new() };
        for (number, (name, days)) in by_name.into_iter().enumerate() {
            let symbol = SymbolId(u16::try_from(number).expect("a header line is far shorter than 65,536 symbols"));
            market.symbols.push(name);
            market.series.push(days.iter().map(|&(_, close)| close).collect());
            market.bars.extend(days.into_iter().map(|(day, close)| Bar { symbol, day, close }));
        }
        market.bars.sort_by_key(|bar| (bar.day, bar.symbol));
        market
    }

    /// Every symbol, in the order of its name.
    pub fn symbols(&self) -> impl ExactSizeIterator<Item = SymbolId> + use<> {
        let count = u16::try_from(self.symbols.len()).expect("assemble numbered them with u16");
        (0..count).map(SymbolId)
    }

    /// The ticker of a symbol, such as `AAPL`.
    pub fn name(&self, symbol: SymbolId) -> &str {
        &self.symbols[symbol.index()]
    }

    /// All bars in the order of time.
    pub fn bars(&self) -> &[Bar] {
        &self.bars
    }

    /// The place in [`Market::bars`] of the first bar after `days` whole days of trading; the end if there are fewer.
    pub fn place_after_days(&self, days: usize) -> usize {
        let mut seen = 0;
        let mut last = None;
        for (place, bar) in self.bars.iter().enumerate() {
            if last != Some(bar.day) {
                if seen == days {
                    return place;
                }
                seen += 1;
                last = Some(bar.day);
            }
        }
        self.bars.len()
    }

    /// The close of a symbol's bar with this number, counted from 1 and going on for ever (see the module's picture).
    ///
    /// # Panics
    /// On bar 0, which means "none has arrived".
    pub fn close(&self, symbol: SymbolId, bar: u64) -> f64 {
        let series = &self.series[symbol.index()];
        let place = usize::try_from(bar.checked_sub(1).expect("bars are counted from 1"))
            .expect("no replay reaches the address space's number of bars");
        series[turned(place, series.len())]
    }

    /// Up to `count` closes that end with `newest` and lie `stride` bars apart, oldest first.
    ///
    /// Fewer where the history does not reach back as far.
    pub fn window(&self, symbol: SymbolId, newest: u64, stride: u64, count: u64) -> Vec<f64> {
        let held = newest.div_ceil(stride).min(count);
        (0..held).rev().map(|back| self.close(symbol, newest - back * stride)).collect()
    }
}

/// Maps an unbounded place to one within `length`, walking forth and back.
fn turned(place: usize, length: usize) -> usize {
    let within = place % length;
    if (place / length).is_multiple_of(2) { within } else { length - 1 - within }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Market {
        let text = "Date,AA,BB\n2020-01-01,1,\n2020-01-02,2,20\n2020-01-03,3,30\n2020-01-06,4,40\n";
        Market::from_tables(&[Table { file: "small", layout: Layout::ColumnPerSymbol, text }]).expect("the table is well formed")
    }

    #[test]
    fn the_bundled_data_are_whole() {
        let market = Market::bundled().expect("the bundled files parse");
        assert_eq!(market.symbols().len(), 22);
        // 20 stocks on 8,313 days without a gap, and the 5,418 rows of GOOG and IBM.
        assert_eq!(market.bars().len(), 20 * 8_313 + 5_418);
        let first = market.bars()[0];
        assert_eq!((market.name(first.symbol), first.day.to_string().as_str()), ("AAPL", "1990-01-02"));
        assert_eq!(first.close, 0.264);
        let last = market.bars()[market.bars().len() - 1];
        assert_eq!((market.name(last.symbol), last.day.to_string().as_str()), ("XOM", "2022-12-28"));
        assert_eq!(last.close, 106.627);
        let ibm = market.symbols().find(|&symbol| market.name(symbol) == "IBM").expect("IBM is bundled");
        assert_eq!(market.close(ibm, 1), 73.667_718_762_847);
        assert!(market.bars().is_sorted_by_key(|bar| (bar.day, bar.symbol)));
        assert!(market.bars().iter().all(|bar| bar.close.is_finite() && bar.close > 0.0));
    }

    #[test]
    fn empty_cells_are_skipped() {
        let market = small();
        assert_eq!(market.bars().len(), 7);
        assert_eq!(market.close(SymbolId(1), 1), 20.0);
    }

    #[test]
    fn closes_walk_forth_and_back() {
        let market = small();
        let walked: Vec<f64> = (1..=9).map(|bar| market.close(SymbolId(0), bar)).collect();
        assert_eq!(walked, [1.0, 2.0, 3.0, 4.0, 4.0, 3.0, 2.0, 1.0, 1.0]);
    }

    #[test]
    fn a_window_ends_with_the_newest_bar() {
        let market = small();
        assert_eq!(market.window(SymbolId(0), 4, 1, 3), [2.0, 3.0, 4.0]);
        assert_eq!(market.window(SymbolId(0), 4, 2, 3), [2.0, 4.0]);
        assert_eq!(market.window(SymbolId(0), 3, 2, 9), [1.0, 3.0]);
        assert_eq!(market.window(SymbolId(0), 0, 1, 9), [0.0; 0]);
    }

    #[test]
    fn days_are_counted_whole() {
        let market = small();
        assert_eq!(market.place_after_days(0), 0);
        assert_eq!(market.place_after_days(1), 1);
        assert_eq!(market.place_after_days(2), 3);
        assert_eq!(market.place_after_days(99), 7);
    }

    #[test]
    fn the_calendar_is_known() {
        assert!(Day::new(2000, 2, 29).is_some());
        assert!(Day::new(1900, 2, 29).is_none());
        assert!(Day::new(2023, 2, 29).is_none());
        assert!(Day::new(2023, 4, 31).is_none());
        assert!(Day::new(2023, 13, 1).is_none());
        assert!(Day::new(2023, 1, 0).is_none());
    }
}
