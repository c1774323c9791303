//! Colour where a person looks, plain text where a file or a CI log does.

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::time::Duration;

/// Paints words, or leaves them alone.
#[derive(Clone, Copy)]
pub struct Paint {
    coloured: bool,
}

/// The paint for standard output.
pub fn stdout() -> Paint {
    static PAINT: OnceLock<Paint> = OnceLock::new();
    *PAINT.get_or_init(|| Paint { coloured: wants_colour(std::io::stdout().is_terminal()) })
}

/// The paint for standard error.
pub fn stderr() -> Paint {
    static PAINT: OnceLock<Paint> = OnceLock::new();
    *PAINT.get_or_init(|| Paint { coloured: wants_colour(std::io::stderr().is_terminal()) })
}

/// `NO_COLOR` (no-color.org) turns colour off whatever its value, as long as it is not empty.
fn wants_colour(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

impl Paint {
    /// Paints nothing: for text that is compared or measured.
    #[cfg(test)]
    pub const PLAIN: Self = Self { coloured: false };

    /// A heading.
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// What can be typed.
    pub fn cyan(self, text: &str) -> String {
        self.wrap("36", text)
    }

    /// What went well.
    pub fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// What did not.
    pub fn red(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    /// What matters less.
    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A blank line and the title of what comes next.
pub fn heading(title: &str) {
    println!("\n{}", stdout().bold(&format!("== {title} ==")));
}

/// `0.4 s`, `12.0 s`, `3 min 05 s`: a duration at the precision at which a person cares.
pub fn readable(duration: Duration) -> String {
    if duration < Duration::from_secs(60) {
        return format!("{:.1} s", duration.as_secs_f64());
    }
    let seconds = duration.as_secs();
    format!("{} min {:02} s", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_readable() {
        assert_eq!(readable(Duration::from_millis(420)), "0.4 s");
        assert_eq!(readable(Duration::from_secs(12)), "12.0 s");
        assert_eq!(readable(Duration::from_secs(185)), "3 min 05 s");
    }

    #[test]
    fn plain_paint_adds_nothing() {
        assert_eq!(Paint::PLAIN.red("failed"), "failed");
        assert_eq!(Paint { coloured: true }.bold("x"), "\x1b[1mx\x1b[0m");
    }
}
