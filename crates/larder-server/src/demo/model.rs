//! Predictions: a few linear models over features, in versions that are retrained while they serve.
//!
//! A *line* is what a key names: `momentum-v2`. Each retraining of a line is a *release*; it replaces the weights under
//! the same name, which is what makes every cached prediction of that line wrong at once.
//!
//! The weights derive from kind, version and release alone, so anyone can recompute a prediction and compare.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::features::Features;
use super::horizon::Horizon;

/// What a model believes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ModelKind {
    /// What rose goes on rising.
    #[serde(rename = "momentum")]
    Momentum,
    /// What strayed from its mean returns to it.
    #[serde(rename = "meanrev")]
    MeanReversion,
    /// A little of both.
    #[serde(rename = "blend")]
    Blend,
}

impl fmt::Display for ModelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Momentum => "momentum",
            Self::MeanReversion => "meanrev",
            Self::Blend => "blend",
        })
    }
}

/// The number of a line within [`LINES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelId(pub u8);

impl ModelId {
    /// Every line that serves.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        (0..LINES.len() as u8).map(ModelId)
    }

    /// The place of the line in tables that have one row for each.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The line itself.
    pub fn line(self) -> ModelLine {
        LINES[self.index()]
    }
}

/// A model kind in one version, as keys name it: `blend-v1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ModelLine {
    /// What it believes in.
    pub kind: ModelKind,
    /// Higher versions look further back.
    pub version: u32,
}

impl fmt::Display for ModelLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-v{}", self.kind, self.version)
    }
}

/// The lines that serve side by side, as they do while a new version is tried against the old.
pub const LINES: [ModelLine; 6] = [
    ModelLine { kind: ModelKind::Momentum, version: 1 },
    ModelLine { kind: ModelKind::Momentum, version: 2 },
    ModelLine { kind: ModelKind::MeanReversion, version: 1 },
    ModelLine { kind: ModelKind::MeanReversion, version: 2 },
    ModelLine { kind: ModelKind::Blend, version: 1 },
    ModelLine { kind: ModelKind::Blend, version: 2 },
];

/// What a model expects of one symbol over one horizon, as of one bar and one release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The ticker.
    pub symbol: String,
    /// How far ahead it looks.
    pub horizon: Horizon,
    /// The kind of the model.
    pub model: ModelKind,
    /// Its version.
    pub version: u32,
    /// Which training of that version made it.
    pub release: u64,
    /// The number of the newest bar used.
    pub bar: u64,
    /// The conviction, from -1 (surely down) to 1 (surely up).
    pub score: f64,
    /// The return to expect over the horizon.
    pub expected_return: f64,
    /// The share of the model's weight whose inputs were there; below 1 for a symbol with little history.
    pub confidence: f64,
}

/// How much of a one-deviation move a full conviction is worth: the skill that a good forecaster of single stocks has,
/// by the usual rule "expected return = skill x volatility x score".
const SKILL: f64 = 0.05;

/// How far a retraining moves each weight at most, as a share of it.
const RETRAINING: f64 = 0.1;

/// What each input counts for.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Weights {
    return_5: f64,
    return_20: f64,
    macd: f64,
    z_score: f64,
    rsi: f64,
}

impl Weights {
    fn of(line: ModelLine, release: u64) -> Self {
        // Version 1 gives half its trend weight to the longer return, version 2 two thirds, and so on.
        let long = f64::from(line.version) / (f64::from(line.version) + 1.0);
        let trend = Self { return_5: 0.7 * (1.0 - long), return_20: 0.7 * long, macd: 0.3, z_score: 0.0, rsi: 0.0 };
        let revert = Self { return_5: 0.0, return_20: 0.0, macd: 0.0, z_score: -0.9 * long, rsi: -0.4 * (1.0 - long) };
        let (trend_share, revert_share) = match line.kind {
            ModelKind::Momentum => (1.0, 0.0),
            ModelKind::MeanReversion => (0.0, 1.0),
            ModelKind::Blend => (0.5, 0.5),
        };
        let mut trained = retraining(line, release);
        let mut mix = |trend: f64, revert: f64| (trend_share * trend + revert_share * revert) * trained();
        Self {
            return_5: mix(trend.return_5, revert.return_5),
            return_20: mix(trend.return_20, revert.return_20),
            macd: mix(trend.macd, revert.macd),
            z_score: mix(trend.z_score, revert.z_score),
            rsi: mix(trend.rsi, revert.rsi),
        }
    }
}

/// Factors about 1 that are the same for the same line and release, and others for any other.
fn retraining(line: ModelLine, release: u64) -> impl FnMut() -> f64 {
    let seed = release << 32 | u64::from(line.version) << 8 | line.kind as u64;
    let mut random = fastrand::Rng::with_seed(seed);
    move || 1.0 + RETRAINING * (2.0 * random.f64() - 1.0)
}

impl Prediction {
    /// What release `release` of a line makes of these features.
    pub fn from_features(line: ModelLine, release: u64, features: &Features) -> Self {
        let weights = Weights::of(line, release);
        let deviation = features.volatility_20.map(|yearly| yearly / features.horizon.closes_a_year().sqrt());
        // A price that stood still has no deviation to measure a trend in: it has no trend either.
        let in_deviations = |change: Option<f64>, closes: f64| {
            let (change, deviation) = (change?, deviation? * closes.sqrt());
            Some(if deviation == 0.0 { 0.0 } else { change / deviation })
        };
        let inputs = [
            (weights.return_5, in_deviations(features.log_return_5, 5.0)),
            (weights.return_20, in_deviations(features.log_return_20, 20.0)),
            (weights.macd, in_deviations(features.macd.map(|macd| macd / features.close), 1.0)),
            (weights.z_score, features.z_score_20),
            (weights.rsi, features.rsi_14.map(|rsi| (rsi - 50.0) / 25.0)),
        ];
        let all: f64 = inputs.iter().map(|(weight, _)| weight.abs()).sum();
        let present: f64 = inputs.iter().filter(|(_, input)| input.is_some()).map(|(weight, _)| weight.abs()).sum();
        let sum: f64 = inputs.iter().map(|(weight, input)| weight * input.unwrap_or(0.0)).sum();
        let score = sum.tanh();
        Self {
            symbol: features.symbol.clone(),
            horizon: features.horizon,
            model: line.kind,
            version: line.version,
            release,
            bar: features.bar,
            score,
            expected_return: SKILL * score * deviation.unwrap_or(0.0),
            confidence: (present / all).min(1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(closes: &[f64]) -> Features {
        Features::over("AA", Horizon::Day, closes.len() as u64, closes)
    }

    /// A rise that wavers a little, so that it has a volatility.
    fn rising() -> Features {
        let closes: Vec<f64> = (0..96).map(|n| 100.0 * 1.01_f64.powi(n) * if n % 2 == 0 { 1.0 } else { 1.004 }).collect();
        features(&closes)
    }

    #[test]
    fn each_kind_says_what_it_believes() {
        let rising = rising();
        let of = |kind| Prediction::from_features(ModelLine { kind, version: 1 }, 1, &rising);
        let (momentum, reversion) = (of(ModelKind::Momentum), of(ModelKind::MeanReversion));
        assert!(momentum.score > 0.5 && momentum.expected_return > 0.0, "{momentum:?}");
        assert!(reversion.score < -0.3 && reversion.expected_return < 0.0, "{reversion:?}");
        let blend = of(ModelKind::Blend);
        assert!(blend.score < momentum.score && blend.score > reversion.score, "{blend:?}");
        assert_eq!(blend.confidence, 1.0);
    }

    #[test]
    fn a_release_changes_the_answer_and_can_be_repeated() {
        let rising = rising();
        for model in ModelId::all() {
            let first = Prediction::from_features(model.line(), 1, &rising);
            assert_eq!(first, Prediction::from_features(model.line(), 1, &rising));
            let second = Prediction::from_features(model.line(), 2, &rising);
            assert_ne!(first.score, second.score, "{}", model.line());
        }
    }

    #[test]
    fn versions_differ() {
        let rising = rising();
        let of = |version| Prediction::from_features(ModelLine { kind: ModelKind::Blend, version }, 1, &rising).score;
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn without_history_there_is_no_conviction() {
        let young = features(&[10.0, 11.0]);
        for model in ModelId::all() {
            let prediction = Prediction::from_features(model.line(), 1, &young);
            assert_eq!((prediction.score, prediction.expected_return, prediction.confidence), (0.0, 0.0, 0.0));
        }
    }

    #[test]
    fn a_price_that_stands_still_gives_finite_numbers() {
        let still = features(&[10.0; 96]);
        for model in ModelId::all() {
            let prediction = Prediction::from_features(model.line(), 1, &still);
            assert_eq!((prediction.score, prediction.expected_return), (0.0, 0.0), "{}", model.line());
        }
    }

    #[test]
    fn lines_are_named_as_keys_name_them() {
        let names: Vec<String> = ModelId::all().map(|model| model.line().to_string()).collect();
        assert_eq!(names, ["momentum-v1", "momentum-v2", "meanrev-v1", "meanrev-v2", "blend-v1", "blend-v2"]);
    }
}
