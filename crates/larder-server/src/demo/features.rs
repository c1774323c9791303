//! What a service would cache per symbol and horizon: indicators over a window of closes.
//!
//! It is handed closes; where they came from, and when, it does not know.

mod indicators;

use serde::{Deserialize, Serialize};

use super::horizon::Horizon;

/// The features of one symbol at one horizon, as of one bar.
///
/// An indicator is absent while the window is still too short for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Features {
    /// The ticker.
    pub symbol: String,
    /// How coarse the window was.
    pub horizon: Horizon,
    /// The number of the newest bar used: what the staleness check compares.
    pub bar: u64,
    /// The close of that bar.
    pub close: f64,
    /// Simple return over 1 close.
    pub return_1: Option<f64>,
    /// Simple return over 5 closes.
    pub return_5: Option<f64>,
    /// Simple return over 20 closes.
    pub return_20: Option<f64>,
    /// Logarithmic return over 1 close.
    pub log_return_1: Option<f64>,
    /// Logarithmic return over 5 closes.
    pub log_return_5: Option<f64>,
    /// Logarithmic return over 20 closes.
    pub log_return_20: Option<f64>,
    /// Mean of the last 10 closes.
    pub sma_10: Option<f64>,
    /// Mean of the last 20 closes.
    pub sma_20: Option<f64>,
    /// Mean of the last 50 closes.
    pub sma_50: Option<f64>,
    /// Exponential mean of span 12.
    pub ema_12: Option<f64>,
    /// Exponential mean of span 26.
    pub ema_26: Option<f64>,
    /// The fast exponential mean less the slow one.
    pub macd: Option<f64>,
    /// Exponential mean of span 9 of the line above.
    pub macd_signal: Option<f64>,
    /// Wilder's relative strength index over 14 changes, 0 to 100.
    pub rsi_14: Option<f64>,
    /// Annualised standard deviation of the last 20 logarithmic returns.
    pub volatility_20: Option<f64>,
    /// The newest close's distance from the mean of 20, in standard deviations.
    pub z_score_20: Option<f64>,
    /// The deepest fall from a peak within the last 60 closes, as a share of the peak.
    pub max_drawdown_60: Option<f64>,
}

impl Features {
    /// Computes every indicator over `closes`, oldest first.
    ///
    /// # Panics
    /// If there is no close: a symbol without a bar has no features.
    pub fn over(symbol: &str, horizon: Horizon, bar: u64, closes: &[f64]) -> Self {
        let close = *closes.last().expect("features are asked for once a bar has arrived");
        let macd = indicators::macd(closes);
        Self {
            symbol: symbol.to_owned(),
            horizon,
            bar,
            close,
            return_1: indicators::simple_return(closes, 1),
            return_5: indicators::simple_return(closes, 5),
            return_20: indicators::simple_return(closes, 20),
            log_return_1: indicators::log_return(closes, 1),
            log_return_5: indicators::log_return(closes, 5),
            log_return_20: indicators::log_return(closes, 20),
            sma_10: indicators::sma(closes, 10),
            sma_20: indicators::sma(closes, 20),
            sma_50: indicators::sma(closes, 50),
            ema_12: indicators::ema(closes, 12),
            ema_26: indicators::ema(closes, 26),
            macd: macd.map(|macd| macd.line),
            macd_signal: macd.and_then(|macd| macd.signal),
            rsi_14: indicators::rsi(closes, 14),
            volatility_20: indicators::volatility(closes, 20, horizon.closes_a_year()),
            z_score_20: indicators::z_score(closes, 20),
            max_drawdown_60: indicators::max_drawdown(closes, 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_young_symbol_has_the_features_that_its_history_allows() {
        let features = Features::over("AA", Horizon::Day, 11, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
        assert_eq!(features.close, 11.0);
        assert_eq!(features.sma_10, Some(6.5));
        assert_eq!(features.return_5, Some(11.0 / 6.0 - 1.0));
        assert_eq!((features.sma_20, features.ema_12, features.macd, features.rsi_14), (None, None, None, None));
    }

    #[test]
    fn a_full_window_has_every_feature() {
        let closes: Vec<f64> = (0..Horizon::WINDOW).map(|n| 100.0 + (n as f64 * 0.7).sin()).collect();
        let features = Features::over("AA", Horizon::Week, 500, &closes);
        let json = serde_json::to_value(&features).expect("finite numbers serialise");
        let fields = json.as_object().expect("a struct is an object");
        assert!(fields.values().all(|value| !value.is_null()), "{json}");
        let back: Features = serde_json::from_value(json).expect("what was written can be read");
        assert_eq!(back, features);
    }
}
