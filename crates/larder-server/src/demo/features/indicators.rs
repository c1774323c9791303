//! Technical indicators as pure functions over closes, oldest first.
//!
//! Each returns `None` where the closes are too few. Closes are finite and above zero (the market's parser sees to
//! that), so nothing here can produce an infinity or NaN.

/// The change over the last `span` closes as a share of where it began.
pub fn simple_return(closes: &[f64], span: usize) -> Option<f64> {
    let (now, then) = ends(closes, span)?;
    Some(now / then - 1.0)
}

/// The logarithm of the change over the last `span` closes; unlike the simple return it adds up over time.
pub fn log_return(closes: &[f64], span: usize) -> Option<f64> {
    let (now, then) = ends(closes, span)?;
    Some((now / then).ln())
}

fn ends(closes: &[f64], span: usize) -> Option<(f64, f64)> {
    let newest = closes.len().checked_sub(1)?;
    Some((closes[newest], closes[newest.checked_sub(span)?]))
}

/// The mean of the last `count` closes.
pub fn sma(closes: &[f64], count: usize) -> Option<f64> {
    Some(mean(tail(closes, count)?))
}

/// The exponential mean of the given span over all the closes, started from the plain mean of the first `span`.
pub fn ema(closes: &[f64], span: usize) -> Option<f64> {
    exponential(closes, span).last().copied()
}

/// The two lines of the moving average convergence/divergence, with the usual spans 12, 26 and 9.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Macd {
    /// The fast exponential mean less the slow one.
    pub line: f64,
    /// The exponential mean of the line, once there are nine of it.
    pub signal: Option<f64>,
}

/// The newest value of both lines.
pub fn macd(closes: &[f64]) -> Option<Macd> {
    let (fast, slow) = (exponential(closes, 12), exponential(closes, 26));
    // The slow mean starts later: align the two at their newest ends.
    let skipped = fast.len().checked_sub(slow.len())?;
    let lines: Vec<f64> = fast[skipped..].iter().zip(&slow).map(|(fast, slow)| fast - slow).collect();
    Some(Macd { line: *lines.last()?, signal: ema(&lines, 9) })
}

/// Wilder's relative strength index: 100 when every change was a gain, 0 when every one was a loss, 50 when the price
/// stood still.
pub fn rsi(closes: &[f64], span: usize) -> Option<f64> {
    let changes: Vec<f64> = closes.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let (first, later) = changes.split_at_checked(span).filter(|(first, _)| !first.is_empty())?;
    let weight = 1.0 / span as f64;
    let gain = |change: &f64| change.max(0.0);
    let loss = |change: &f64| (-change).max(0.0);
    let mut gains = first.iter().map(gain).sum::<f64>() * weight;
    let mut losses = first.iter().map(loss).sum::<f64>() * weight;
    for change in later {
        gains += weight * (gain(change) - gains);
        losses += weight * (loss(change) - losses);
    }
    let all = gains + losses;
    Some(if all == 0.0 { 50.0 } else { 100.0 * gains / all })
}

/// The standard deviation of the last `count` logarithmic returns (with Bessel's correction), for a whole year.
pub fn volatility(closes: &[f64], count: usize, closes_a_year: f64) -> Option<f64> {
    let window = tail(closes, count + 1)?;
    let returns: Vec<f64> = window.windows(2).map(|pair| (pair[1] / pair[0]).ln()).collect();
    let centre = mean(&returns);
    let squares: f64 = returns.iter().map(|each| (each - centre).powi(2)).sum();
    Some((squares / (count.checked_sub(1)? as f64) * closes_a_year).sqrt())
}

/// How many standard deviations the newest close lies above the mean of the last `count`; 0 where all are equal.
pub fn z_score(closes: &[f64], count: usize) -> Option<f64> {
    let window = tail(closes, count)?;
    let centre = mean(window);
    let deviation = (window.iter().map(|close| (close - centre).powi(2)).sum::<f64>() / count as f64).sqrt();
    // The mean of equal numbers can differ from them in its last bit; that is no deviation.
    let flat = deviation <= centre * 1e-12;
    Some(if flat { 0.0 } else { (closes[closes.len() - 1] - centre) / deviation })
}

/// The deepest fall from a peak to a later close within the last `count` closes, as a share of that peak.
pub fn max_drawdown(closes: &[f64], count: usize) -> Option<f64> {
    let mut peak = f64::MIN_POSITIVE;
    let mut deepest = 0.0_f64;
    for &close in tail(closes, count)? {
        peak = peak.max(close);
        deepest = deepest.max(1.0 - close / peak);
    }
    Some(deepest)
}

/// The last `count` of `closes`, unless there are fewer (or none is asked for).
fn tail(closes: &[f64], count: usize) -> Option<&[f64]> {
    let start = closes.len().checked_sub(count)?;
    (count > 0).then(|| &closes[start..])
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The exponential means from the `span`-th value on.
fn exponential(values: &[f64], span: usize) -> Vec<f64> {
    let Some((first, later)) = values.split_at_checked(span).filter(|(first, _)| !first.is_empty()) else {
        return Vec::new();
    };
    let weight = 2.0 / (span as f64 + 1.0);
    let mut means = vec![mean(first)];
    let mut current = means[0];
    for value in later {
        current += weight * (value - current);
        means.push(current);
    }
    means
}

#[cfg(test)]
mod tests;
