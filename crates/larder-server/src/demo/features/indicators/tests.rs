//! The indicators against values worked out by hand, and what must hold for any closes at all.

use proptest::prelude::*;

use super::*;
use crate::demo::properties;

#[track_caller]
fn close_to(found: Option<f64>, expected: f64) {
    let found = found.expect("the closes are enough");
    assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "found {found}, expected {expected}");
}

#[test]
fn returns_span_closes() {
    let closes = [100.0, 110.0, 99.0];
    close_to(simple_return(&closes, 1), -0.1);
    close_to(simple_return(&closes, 2), -0.01);
    close_to(log_return(&closes, 1), 0.9_f64.ln());
    assert_eq!(simple_return(&closes, 3), None);
    assert_eq!(log_return(&[], 1), None);
}

#[test]
fn means_cover_the_newest_closes() {
    let closes = [1.0, 2.0, 3.0, 4.0, 5.0];
    close_to(sma(&closes, 2), 4.5);
    close_to(sma(&closes, 5), 3.0);
    assert_eq!(sma(&closes, 6), None);
    assert_eq!(sma(&closes, 0), None);
    // Span 3 has weight 1/2: it starts at (1+2+3)/3 = 2, then (2+4)/2 = 3, then (3+5)/2 = 4.
    close_to(ema(&closes, 3), 4.0);
    assert_eq!(ema(&closes, 6), None);
}

#[test]
fn macd_of_a_straight_line_is_half_the_difference_of_the_spans() {
    // On a line of slope 1 an exponential mean of span n started from the plain mean lags by exactly (n - 1) / 2,
    // so the fast mean runs (26 - 12) / 2 = 7 ahead of the slow one, and the signal with it.
    let closes: Vec<f64> = (1..=60).map(f64::from).collect();
    let found = macd(&closes).expect("sixty closes are enough");
    close_to(Some(found.line), 7.0);
    close_to(found.signal, 7.0);
    assert_eq!(macd(&closes[..25]), None);
    assert_eq!(macd(&closes[..33]).expect("26 are enough for the line").signal, None);
    close_to(macd(&closes[..34]).expect("26 are enough for the line").signal, 7.0);
}

#[test]
fn rsi_follows_wilder() {
    // Changes +1 +1 -1 with span 3: gains 2/3, losses 1/3, so 100 * 2/3.
    close_to(rsi(&[10.0, 11.0, 12.0, 11.0], 3), 200.0 / 3.0);
    // One more change, +2: gains (2 * 2/3 + 2) / 3 = 10/9, losses (2 * 1/3 + 0) / 3 = 2/9.
    close_to(rsi(&[10.0, 11.0, 12.0, 11.0, 13.0], 3), 100.0 * 10.0 / 12.0);
    close_to(rsi(&[1.0, 2.0, 3.0, 4.0], 3), 100.0);
    close_to(rsi(&[4.0, 3.0, 2.0, 1.0], 3), 0.0);
    close_to(rsi(&[4.0, 4.0, 4.0, 4.0], 3), 50.0);
    assert_eq!(rsi(&[1.0, 2.0, 3.0], 3), None);
    assert_eq!(rsi(&[1.0], 0), None);
}

#[test]
fn volatility_is_annualised() {
    // Log returns +a and -a: mean 0, sum of squares 2 a^2, one degree of freedom, four closes a year.
    let a = 0.02_f64;
    close_to(volatility(&[50.0, 50.0 * a.exp(), 50.0], 2, 4.0), a * 2.0_f64.sqrt() * 2.0);
    close_to(volatility(&[7.0; 21], 20, 252.0), 0.0);
    assert_eq!(volatility(&[7.0; 20], 20, 252.0), None);
}

#[test]
fn z_score_counts_deviations() {
    // Mean 3, population deviation sqrt(2).
    close_to(z_score(&[1.0, 2.0, 3.0, 4.0, 5.0], 5), 2.0_f64.sqrt());
    close_to(z_score(&[0.1; 20], 20), 0.0);
}

#[test]
fn drawdown_needs_the_peak_before_the_fall() {
    close_to(max_drawdown(&[50.0, 100.0, 80.0, 90.0, 60.0, 120.0], 6), 0.4);
    close_to(max_drawdown(&[1.0, 2.0, 3.0], 3), 0.0);
    // The peak of 100 lies outside the last two.
    close_to(max_drawdown(&[100.0, 50.0, 40.0], 2), 0.2);
    assert_eq!(max_drawdown(&[1.0], 2), None);
}

/// Walks of up to 10 % a step from a price between a tenth of a cent and a hundred thousand dollars.
fn walks() -> impl Strategy<Value = Vec<f64>> {
    let steps = proptest::collection::vec(-0.1..0.1_f64, 0..120);
    (0.001..100_000.0_f64, steps).prop_map(|(start, steps)| {
        let mut closes = vec![start];
        closes.extend(steps.iter().scan(start, |price, step| {
            *price *= 1.0 + step;
            Some(*price)
        }));
        closes
    })
}

proptest! {
    #![proptest_config(properties())]

    #[test]
    fn indicators_stay_in_their_ranges(closes in walks()) {
        let low = closes.iter().copied().fold(f64::INFINITY, f64::min);
        let high = closes.iter().copied().fold(0.0, f64::max);
        let slack = high * 1e-12;
        let within = |value: Option<f64>| value.is_none_or(|value| value >= low - slack && value <= high + slack);
        for count in [10, 20, 50] {
            prop_assert!(within(sma(&closes, count)));
            prop_assert!(within(ema(&closes, count)));
        }
        prop_assert!(rsi(&closes, 14).is_none_or(|value| (0.0..=100.0).contains(&value)));
        prop_assert!(volatility(&closes, 20, 252.0).is_none_or(|value| value.is_finite() && value >= 0.0));
        prop_assert!(max_drawdown(&closes, 60).is_none_or(|value| (0.0..1.0).contains(&value)));
        // No close of n lies further from their mean than the square root of n - 1 deviations.
        prop_assert!(z_score(&closes, 20).is_none_or(|value| value.abs() <= 19.0_f64.sqrt() + 1e-6));
    }

    #[test]
    fn indicators_are_there_exactly_when_the_closes_are_enough(closes in walks()) {
        let n = closes.len();
        prop_assert_eq!(simple_return(&closes, 20).is_some(), n > 20);
        prop_assert_eq!(sma(&closes, 50).is_some(), n >= 50);
        prop_assert_eq!(ema(&closes, 26).is_some(), n >= 26);
        prop_assert_eq!(macd(&closes).is_some(), n >= 26);
        prop_assert_eq!(rsi(&closes, 14).is_some(), n > 14);
        prop_assert_eq!(volatility(&closes, 20, 252.0).is_some(), n > 20);
        prop_assert_eq!(z_score(&closes, 20).is_some(), n >= 20);
        prop_assert_eq!(max_drawdown(&closes, 60).is_some(), n >= 60);
    }

    #[test]
    fn the_two_returns_agree(closes in walks(), span in 0..40_usize) {
        if let (Some(simple), Some(log)) = (simple_return(&closes, span), log_return(&closes, span)) {
            prop_assert!((simple.ln_1p() - log).abs() < 1e-9);
        }
    }

    /// Quoting a price in cents instead of dollars changes no indicator that has no unit.
    #[test]
    fn the_unit_of_money_does_not_matter(closes in walks()) {
        let cents: Vec<f64> = closes.iter().map(|close| close * 100.0).collect();
        let same = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => (a - b).abs() < 1e-6,
            (a, b) => a == b,
        };
        prop_assert!(same(rsi(&closes, 14), rsi(&cents, 14)));
        prop_assert!(same(volatility(&closes, 20, 252.0), volatility(&cents, 20, 252.0)));
        prop_assert!(same(z_score(&closes, 20), z_score(&cents, 20)));
        prop_assert!(same(max_drawdown(&closes, 60), max_drawdown(&cents, 60)));
    }

    /// Turning gains into losses mirrors the index about 50.
    #[test]
    fn rsi_is_symmetric(closes in walks()) {
        let high = closes.iter().copied().fold(0.0, f64::max);
        let mirrored: Vec<f64> = closes.iter().map(|close| 2.0 * high - close).collect();
        if let (Some(up), Some(down)) = (rsi(&closes, 14), rsi(&mirrored, 14)) {
            prop_assert!((up + down - 100.0).abs() < 1e-6, "{up} and {down}");
        }
    }
}
