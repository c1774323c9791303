//! Comma-separated closes to quotes: every cell checked, every fault with its file and line.
//!
//! The format is plain (no quoting), so it is read by hand. It does not know what the quotes are for.

use std::fmt;
use std::io::Read;

use flate2::read::GzDecoder;

use super::Day;

/// How a table lays out its closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `Date,AAPL,AMD,...`: a line for each day.
    ColumnPerSymbol,
    /// `Date,Ticker,Adj Close`: a line for each day and symbol.
    RowPerSymbol,
}

/// The header of [`Layout::RowPerSymbol`].
const ROW_HEADER: &str = "Date,Ticker,Adj Close";

/// A text of closes and where it came from.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    /// Named in errors.
    pub file: &'static str,
    /// How the text is laid out.
    pub layout: Layout,
    /// The text, header first.
    pub text: &'a str,
}

/// Market data that could not be read.
#[derive(Debug)]
pub struct MarketError {
    file: &'static str,
    line: usize,
    fault: Fault,
}

/// What is wrong with a line.
#[derive(Debug, PartialEq)]
pub(super) enum Fault {
    Unreadable(String),
    Header { expected: &'static str, found: String },
    Symbol(String),
    SymbolTwice(String),
    Columns { expected: usize, found: usize },
    Day(String),
    Close { symbol: String, text: String },
    DayNotLater { symbol: String, day: Day, last: Day },
    NoBars,
}

impl MarketError {
    pub(super) fn new(file: &'static str, line: usize, fault: Fault) -> Self {
        Self { file, line, fault }
    }
}

impl fmt::Display for MarketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}: ", self.file, self.line)?;
        match &self.fault {
            Fault::Unreadable(why) => write!(f, "not readable as gzipped text: {why}"),
            Fault::Header { expected, found } => {
                write!(f, "expected the header `{expected}`, found `{found}`")
            }
            Fault::Symbol(text) => {
                write!(f, "`{text}` is no symbol (letters, digits, `.` and `-`)")
            }
            Fault::SymbolTwice(symbol) => write!(f, "{symbol} is given twice"),
            Fault::Columns { expected, found } => {
                write!(f, "expected {expected} columns, found {found}")
            }
            Fault::Day(text) => write!(f, "`{text}` is no day (YYYY-MM-DD)"),
            Fault::Close { symbol, text } => {
                write!(f, "`{text}` is no close of {symbol} (a number above zero)")
            }
            Fault::DayNotLater { symbol, day, last } => {
                write!(f, "{symbol}: {day} does not come after {last}")
            }
            Fault::NoBars => f.write_str("there is no bar in it"),
        }
    }
}

impl std::error::Error for MarketError {}

/// One close as its table gave it.
#[derive(Debug, PartialEq)]
pub(super) struct Quote<'a> {
    pub symbol: &'a str,
    pub day: Day,
    pub close: f64,
    pub line: usize,
}

/// Unpacks gzipped UTF-8 text.
pub(super) fn inflate(file: &'static str, packed: &[u8]) -> Result<String, MarketError> {
    let mut text = String::new();
    match GzDecoder::new(packed).read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => Err(MarketError::new(file, 1, Fault::Unreadable(error.to_string()))),
    }
}

/// Every quote of a table in the order of its lines.
pub(super) fn quotes<'a>(table: &Table<'a>) -> Result<Vec<Quote<'a>>, MarketError> {
    let mut lines = table.text.lines().zip(1..);
    let (header, _) = lines.next().unwrap_or(("", 1));
    let mut quotes = Vec::new();
    match table.layout {
        Layout::ColumnPerSymbol => {
            let symbols = symbols_of(header).map_err(|fault| MarketError::new(table.file, 1, fault))?;
            for (text, line) in lines {
                day_line(text, line, &symbols, &mut quotes).map_err(|fault| MarketError::new(table.file, line, fault))?;
            }
        }
        Layout::RowPerSymbol => {
            if header != ROW_HEADER {
                let fault = Fault::Header { expected: ROW_HEADER, found: header.to_owned() };
                return Err(MarketError::new(table.file, 1, fault));
            }
            for (text, line) in lines {
                symbol_line(text, line, &mut quotes).map_err(|fault| MarketError::new(table.file, line, fault))?;
            }
        }
    }
    Ok(quotes)
}

fn symbols_of(header: &str) -> Result<Vec<&str>, Fault> {
    let Some(names) = header.strip_prefix("Date,") else {
        return Err(Fault::Header { expected: "Date,SYMBOL,...", found: header.to_owned() });
    };
    let mut symbols = Vec::new();
    for name in names.split(',') {
        let name = symbol(name)?;
        if symbols.contains(&name) {
            return Err(Fault::SymbolTwice(name.to_owned()));
        }
        symbols.push(name);
    }
    Ok(symbols)
}

fn day_line<'a>(text: &'a str, line: usize, symbols: &[&'a str], into: &mut Vec<Quote<'a>>) -> Result<(), Fault> {
    let found = text.split(',').count();
    if found != symbols.len() + 1 {
        return Err(Fault::Columns { expected: symbols.len() + 1, found });
    }
    let mut cells = text.split(',');
    let day = day(cells.next().unwrap_or_default())?;
    for (&symbol, cell) in symbols.iter().zip(cells) {
        if !cell.is_empty() {
            into.push(Quote { symbol, day, close: close(symbol, cell)?, line });
        }
    }
    Ok(())
}

fn symbol_line<'a>(text: &'a str, line: usize, into: &mut Vec<Quote<'a>>) -> Result<(), Fault> {
    let cells: Vec<&str> = text.split(',').collect();
    let [date, name, price] = cells[..] else {
        return Err(Fault::Columns { expected: 3, found: cells.len() });
    };
    let (day, symbol) = (day(date)?, symbol(name)?);
    if !price.is_empty() {
        into.push(Quote { symbol, day, close: close(symbol, price)?, line });
    }
    Ok(())
}

/// A symbol becomes a segment of cache keys, so nothing that means something in a key or a pattern may be in it.
fn symbol(text: &str) -> Result<&str, Fault> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    if !text.is_empty() && text.bytes().all(fits) { Ok(text) } else { Err(Fault::Symbol(text.to_owned())) }
}

fn day(text: &str) -> Result<Day, Fault> {
    let parse = || {
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let (year, rest) = text.split_once('-')?;
        let (month, day) = rest.split_once('-')?;
        let shaped = year.len() == 4 && month.len() == 2 && day.len() == 2;
        if !shaped || ![year, month, day].into_iter().all(digits) {
            return None;
        }
        Day::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)
    };
    parse().ok_or_else(|| Fault::Day(text.to_owned()))
}

fn close(symbol: &str, text: &str) -> Result<f64, Fault> {
    match text.parse::<f64>() {
        Ok(price) if price.is_finite() && price > 0.0 => Ok(price),
        _ => Err(Fault::Close { symbol: symbol.to_owned(), text: text.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Market;
    use super::*;

    fn refused(layout: Layout, text: &str) -> String {
        let error = Market::from_tables(&[Table { file: "t.csv", layout, text }]).expect_err("the table is malformed");
        error.to_string()
    }

    #[test]
    fn both_layouts_give_the_same_quotes() {
        let wide = Table { file: "wide", layout: Layout::ColumnPerSymbol, text: "Date,AA,B.B\r\n2020-01-01,1.5,\r\n2020-01-02,2,3\r\n" };
        let long = Table {
            file: "long",
            layout: Layout::RowPerSymbol,
            text: "Date,Ticker,Adj Close\n2020-01-01,AA,1.5\n2020-01-02,AA,2\n2020-01-02,B.B,3\n",
        };
        let plain = |table: &Table<'static>| -> Vec<(&'static str, String, f64)> {
            let quotes = quotes(table).expect("well formed");
            quotes.into_iter().map(|quote| (quote.symbol, quote.day.to_string(), quote.close)).collect()
        };
        assert_eq!(plain(&wide), plain(&long));
        assert_eq!(plain(&wide)[2], ("B.B", "2020-01-02".to_owned(), 3.0));
    }

    #[test]
    fn a_fault_names_its_file_and_line() {
        use Layout::{ColumnPerSymbol as Wide, RowPerSymbol as Long};
        let table = [
            (Wide, "", "line 1: expected the header `Date,SYMBOL,...`"),
            (Wide, "Date,A:B\n", "line 1: `A:B` is no symbol"),
            (Wide, "Date,AA,AA\n", "line 1: AA is given twice"),
            (Wide, "Date,AA\n", "line 1: there is no bar in it"),
            (Wide, "Date,AA\n2020-01-01,1,2\n", "line 2: expected 2 columns, found 3"),
            (Wide, "Date,AA\n2020-01-01,1\n\n", "line 3: expected 2 columns, found 1"),
            (Wide, "Date,AA\n2020-02-30,1\n", "line 2: `2020-02-30` is no day"),
            (Wide, "Date,AA\n+020-02-03,1\n", "line 2: `+020-02-03` is no day"),
            (Wide, "Date,AA\n2020-02-03,-1\n", "line 2: `-1` is no close of AA"),
            (Wide, "Date,AA\n2020-02-03,NaN\n", "line 2: `NaN` is no close of AA"),
            (Wide, "Date,AA\n2020-02-03,inf\n", "line 2: `inf` is no close of AA"),
            (Wide, "Date,AA\n2020-02-03,1\n2020-02-03,1\n", "line 3: AA: 2020-02-03 does not come after 2020-02-03"),
            (Long, "Date,Ticker,Close\n", "line 1: expected the header `Date,Ticker,Adj Close`"),
            (Long, "Date,Ticker,Adj Close\n2020-01-01,AA\n", "line 2: expected 3 columns, found 2"),
            (Long, "Date,Ticker,Adj Close\n2020-01-01,,1\n", "line 2: `` is no symbol"),
        ];
        for (layout, text, expected) in table {
            let said = refused(layout, text);
            assert!(said.starts_with("t.csv, ") && said.contains(expected), "{text:?} gave: {said}");
        }
    }

    #[test]
    fn a_symbol_comes_from_one_table() {
        let text = "Date,AA\n2020-01-01,1\n";
        let table = Table { file: "t.csv", layout: Layout::ColumnPerSymbol, text };
        let error = Market::from_tables(&[table, table]).expect_err("AA is in both");
        assert!(error.to_string().contains("AA is given twice"), "{error}");
    }

    #[test]
    fn damaged_gzip_is_an_error() {
        let error = inflate("t.csv.gz", &super::super::GOOG_IBM[..1_000]).expect_err("it is cut short");
        assert!(error.to_string().contains("not readable as gzipped text"), "{error}");
    }
}
