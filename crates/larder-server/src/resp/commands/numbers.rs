//! Values that are numbers: `INCR`, `DECRBY`, `INCRBYFLOAT`.

use larder::{Answer, Change};

use bytes::Bytes;

use super::strings::change;
use super::{Call, Done, Refusal, whole};
use crate::resp::reply::decimal;

const OVERFLOW: Refusal = Refusal::new("ERR increment or decrement would overflow");
const NOT_A_FLOAT: Refusal = Refusal::new("ERR value is not a valid float");
const NOT_FINITE: Refusal = Refusal::new("ERR increment would produce NaN or Infinity");

/// `DECRBY key decrement`
pub async fn decrby(call: &mut Call<'_>) -> Done {
    let by = call.integer(2)?.checked_neg().ok_or(const { Refusal::new("ERR decrement would overflow") })?;
    add(call, Some(by)).await
}

/// `INCR key`, `DECR key`, `INCRBY key increment`
pub async fn add(call: &mut Call<'_>, by: Option<i64>) -> Done {
    let by = by.map_or_else(|| call.integer(2), Ok)?;
    let sum = recount(call, |before| {
        let sum = before.map_or(Ok(0), |before| whole(before))?.checked_add(by).ok_or(OVERFLOW)?;
        Ok((Bytes::copy_from_slice(decimal(sum, &mut [0; 20])), sum))
    });
    let sum = sum.await?;
    call.out.integer(sum);
    Ok(())
}

/// `INCRBYFLOAT key increment`
pub async fn add_float(call: &mut Call<'_>) -> Done {
    let by = Decimal::read(call.args.at(2)).ok_or(NOT_A_FLOAT)?;
    let sum = recount(call, |before| {
        let before = before.map_or(Some(Decimal::default()), |before| Decimal::read(before)).ok_or(NOT_A_FLOAT)?;
        let sum = before.plus(by).ok_or(NOT_FINITE)?;
        Ok((Bytes::from(sum.clone()), sum))
    });
    let sum = sum.await?;
    call.out.bulk(sum.as_bytes());
    Ok(())
}

/// Puts a value that is made from the one before, and everything else as it was.
async fn recount<T>(call: &mut Call<'_>, make: impl Fn(Option<&Bytes>) -> Result<(Bytes, T), Refusal> + Send + Sync) -> Result<T, Refusal>
where
    T: Send,
{
    let key = call.args.at(1);
    let _held = call.hold(key).await?;
    let changed = change(call, key, |now: Option<&Answer<Bytes>>| match make(now.map(|answer| &*answer.value)) {
        Ok((value, told)) => (Change::Value(value), Ok(told)),
        Err(refusal) => (Change::Keep, Err(refusal)),
    });
    changed.await?
}

/// A number as Redis adds them, which has 64 bits of mantissa and shows 17 places: exact where 17 places behind 15 digits are enough, and
/// where it is whole and has 64 bits; otherwise a double.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Decimal {
    /// In units of 10^-17.
    Exact(i128),
    Double(f64),
}

impl Default for Decimal {
    fn default() -> Self {
        Decimal::Exact(0)
    }
}

const PLACES: usize = 17;
const ONE: i128 = 10i128.pow(PLACES as u32);
/// Beyond it there are more digits than a mantissa holds, unless they are those of a whole number.
const EXACT_MAX: i128 = ONE * 10i128.pow(15);
const EXACT_WHOLE_MAX: i128 = ONE * u64::MAX as i128;

impl Decimal {
    fn read(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok().filter(|text| !text.is_empty() && text.len() <= 256)?;
        if let Some(exact) = read_exact(text) {
            return Some(Decimal::Exact(exact));
        }
        let unsigned = text.trim_start_matches(['+', '-']);
        let is_number = unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.');
        let is_infinite = ["inf", "infinity"].iter().any(|name| unsigned.eq_ignore_ascii_case(name));
        let number: f64 = text.parse().ok().filter(|number: &f64| !number.is_nan())?;
        // One that is too large for a double, or too small, is no number, as one that is so for more than that is none in Redis.
        let mantissa = unsigned.split(['e', 'E']).next().unwrap_or_default();
        let is_lost = number == 0.0 && mantissa.bytes().any(|digit| matches!(digit, b'1'..=b'9'));
        (is_number && number.is_finite() && !is_lost || is_infinite).then_some(Decimal::Double(number))
    }

    /// The sum, as it is shown; `None` if there is no such number.
    fn plus(self, other: Decimal) -> Option<String> {
        if let (Decimal::Exact(a), Decimal::Exact(b)) = (self, other)
            && let Some(sum) = a.checked_add(b)
        {
            return Some(show(sum));
        }
        let sum = self.double() + other.double();
        sum.is_finite().then(|| trimmed(&format!("{sum:.PLACES$}")))
    }

    fn double(self) -> f64 {
        match self {
            Decimal::Exact(units) => units as f64 / ONE as f64,
            Decimal::Double(number) => number,
        }
    }
}

/// `[+-]digits[.digits][e[+-]digits]`, where it has no more places than are kept.
fn read_exact(text: &str) -> Option<i128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (is_negative, unsigned) = match mantissa.as_bytes().first()? {
        b'-' => (true, &mantissa[1..]),
        b'+' => (false, &mantissa[1..]),
        _ => (false, mantissa),
    };
    let (before, behind) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits = || before.bytes().chain(behind.bytes());
    if before.len() + behind.len() == 0 || digits().any(|digit| !digit.is_ascii_digit()) {
        return None;
    }
    let mut units = digits().try_fold(0i128, |sum, digit| sum.checked_mul(10)?.checked_add((digit - b'0').into()))?;
    let shift = (PLACES as i32).checked_add(exponent)?.checked_sub(i32::try_from(behind.len()).ok()?)?;
    let power = 10i128.checked_pow(shift.unsigned_abs())?;
    if shift >= 0 {
        units = units.checked_mul(power)?;
    } else if units % power == 0 {
        units /= power;
    } else {
        return None;
    }
    let is_exact = units <= EXACT_MAX || units <= EXACT_WHOLE_MAX && units % ONE == 0;
    is_exact.then_some(if is_negative { -units } else { units })
}

fn show(units: i128) -> String {
    let (whole, rest) = (units.unsigned_abs() / ONE.unsigned_abs(), units.unsigned_abs() % ONE.unsigned_abs());
    let sign = if units < 0 { "-" } else { "" };
    trimmed(&format!("{sign}{whole}.{rest:017}"))
}

fn trimmed(text: &str) -> String {
    let short = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text };
    if short == "-0" { "0".into() } else { short.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &str, b: &str) -> Option<String> {
        Decimal::read(a.as_bytes())?.plus(Decimal::read(b.as_bytes())?)
    }

    #[test]
    fn sums_are_those_that_people_expect() {
        let cases = [
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("3.0", "1.1", "4.1"),
            ("0", "-0.0", "0"),
            ("-1.5", "1", "-0.5"),
            ("1e-17", "0", "0.00000000000000001"),
            ("1e20", "0", "100000000000000000000"),
            (".5", "+.5", "1"),
            ("9223372036854775807", "-9223372036854775808", "-1"),
            ("18446744073709551615", "-1", "18446744073709551614"),
            ("-18446744073709551615", "0.5", "-18446744073709551614.5"),
        ];
        cases.iter().for_each(|(a, b, result)| assert_eq!(sum(a, b).as_deref(), Some(*result), "{a} + {b}"));
    }

    #[test]
    fn what_is_no_number_is_none() {
        for text in ["1e99999", "1e-99999", "1e2147483647", "", " 1", "1 ", "nan", "1x", "e5", "--1", "."] {
            assert_eq!(Decimal::read(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Decimal::read(b"inf").and_then(|inf| inf.plus(Decimal::default())), None);
        assert_eq!(sum("1e308", "1e308").as_deref().map(str::len), None);
    }
}
