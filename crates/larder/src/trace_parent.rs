//! Where a trace comes from: the header `traceparent` of the W3C's Trace Context, which CloudEvents carry as an attribute.

use std::fmt;
use std::str::FromStr;

/// The length of version 00; later versions begin alike.
const LEN: usize = 55;

/// Who caused something, in a trace that began elsewhere: see <https://www.w3.org/TR/trace-context/>.
///
/// ```
/// use larder::TraceParent;
/// let parent: TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
/// assert_eq!(parent.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
/// assert!(parent.is_sampled);
/// assert!("00-0-0-01".parse::<TraceParent>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace; not zero.
    pub trace_id: u128,
    /// The span that caused it; not zero.
    pub span_id: u64,
    /// Whether whoever began the trace keeps it.
    pub is_sampled: bool,
}

/// Why a text is no [`TraceParent`]. Who gets one that is none begins a trace of his own, as the specification asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseTraceParentError;

impl fmt::Display for ParseTraceParentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a traceparent is 00-, 32 and 16 hexadecimal digits that are not all zero, and two more, with - between")
    }
}

impl std::error::Error for ParseTraceParentError {}

impl FromStr for TraceParent {
    type Err = ParseTraceParentError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text.as_bytes();
        let (first, rest) = bytes.split_at_checked(LEN).ok_or(ParseTraceParentError)?;
        let dashes = [2, 35, 52].iter().all(|at| first[*at] == b'-');
        // Later versions may have more behind another dash; ff is none.
        let version = hex(&first[..2])?;
        let fits = if version == 0 { rest.is_empty() } else { version != 0xff && rest.first().is_none_or(|byte| *byte == b'-') };
        let (trace_id, span_id, flags) = (hex(&first[3..35])?, hex(&first[36..52])?, hex(&first[53..])?);
        if !dashes || !fits || trace_id == 0 || span_id == 0 {
            return Err(ParseTraceParentError);
        }
        Ok(TraceParent { trace_id, span_id: span_id as u64, is_sampled: flags & 1 == 1 })
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.is_sampled))
    }
}

/// Small digits only, as the specification has it.
fn hex(digits: &[u8]) -> Result<u128, ParseTraceParentError> {
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'9' => Ok(number << 4 | u128::from(digit - b'0')),
        b'a'..=b'f' => Ok(number << 4 | u128::from(digit - b'a' + 10)),
        _ => Err(ParseTraceParentError),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_no_traceparent_is_refused() {
        for (from, to) in [("00-4", "ff-4"), ("4736", "473G"), ("4b", "4B"), ("-01", "-1"), ("-01", "-01-x"), ("-00f", "_00f")] {
            let bad = GOOD.replacen(from, to, 1);
            assert_eq!(bad.parse::<TraceParent>(), Err(ParseTraceParentError), "{bad}");
        }
        let zero = ["00-00000000000000000000000000000000-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"];
        assert!(zero.iter().all(|zero| zero.parse::<TraceParent>().is_err()));
        let later = format!("01{}-more", &GOOD[2..]);
        assert_eq!(later.parse::<TraceParent>(), GOOD.parse(), "what a later version adds is passed over");
    }

    proptest! {
        #[test]
        fn it_survives_its_text_and_no_text_panics(trace_id in 1u128.., span_id in 1u64.., is_sampled: bool, text in ".{0,80}") {
            let parent = TraceParent { trace_id, span_id, is_sampled };
            prop_assert_eq!(parent.to_string().parse(), Ok(parent));
            prop_assert!(text.parse::<TraceParent>().is_err());
        }
    }
}
