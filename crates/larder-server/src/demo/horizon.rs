//! How far a feature looks back and a prediction looks ahead.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A span of trading days. A window of a horizon has one close for each such span, so a longer horizon sees the same
/// market through coarser bars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Horizon {
    /// One trading day.
    #[serde(rename = "1d")]
    Day,
    /// Five trading days.
    #[serde(rename = "1w")]
    Week,
    /// Ten trading days.
    #[serde(rename = "2w")]
    Fortnight,
    /// Twenty-one trading days.
    #[serde(rename = "1mo")]
    Month,
    /// Sixty-three trading days.
    #[serde(rename = "1q")]
    Quarter,
}

/// Trading days in a year, as volatility is annualised by convention.
const TRADING_DAYS_A_YEAR: f64 = 252.0;

impl Horizon {
    /// Every horizon, shortest first.
    pub const ALL: [Self; 5] = [Self::Day, Self::Week, Self::Fortnight, Self::Month, Self::Quarter];

    /// Closes in a window of any horizon: enough for the slowest indicator (a drawdown over 60) and for the
    /// exponential averages to forget where they started.
    pub const WINDOW: u64 = 96;

    /// The horizon as keys name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Day => "1d",
            Self::Week => "1w",
            Self::Fortnight => "2w",
            Self::Month => "1mo",
            Self::Quarter => "1q",
        }
    }

    /// Daily bars from one close of the window to the next.
    pub fn stride(self) -> u64 {
        match self {
            Self::Day => 1,
            Self::Week => 5,
            Self::Fortnight => 10,
            Self::Month => 21,
            Self::Quarter => 63,
        }
    }

    /// How many closes of this horizon a year has.
    pub fn closes_a_year(self) -> f64 {
        TRADING_DAYS_A_YEAR / f64::from(u32::try_from(self.stride()).expect("strides are small"))
    }
}

impl fmt::Display for Horizon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_horizon_is_serialised_as_keys_name_it() {
        for horizon in Horizon::ALL {
            let json = serde_json::to_string(&horizon).expect("a unit variant always serialises");
            assert_eq!(json, format!("\"{horizon}\""));
        }
    }
}
