//! "Did you mean ...?": the nearest of a few known words. Pure.

/// The candidate that `typed` most likely stands for, or none when all are too far off to be worth saying.
pub fn nearest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed = typed.to_lowercase();
    // One slip in three letters is a typing error; more is another word.
    let tolerated = (typed.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(&typed, candidate), candidate))
        .filter(|(slips, candidate)| *slips <= tolerated || is_start_of(&typed, candidate))
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

fn is_start_of(typed: &str, candidate: &str) -> bool {
    typed.chars().count() >= 2 && candidate.starts_with(typed)
}

/// The number of letters to insert, delete, replace, or swap with their neighbour, to make one word into the other.
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    // Row i holds the distances between the first i letters of `from` and every beginning of `to`.
    let mut rows = vec![vec![0; to.len() + 1]; from.len() + 1];
    rows[0] = (0..=to.len()).collect();
    for i in 1..=from.len() {
        rows[i][0] = i;
        for j in 1..=to.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut fewest = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                fewest = fewest.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = fewest;
        }
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMANDS: [&str; 5] = ["setup", "test", "tidy", "bench", "docs"];

    #[test]
    fn slips_of_the_finger_are_forgiven() {
        for (typed, meant) in [("tset", "test"), ("benchs", "bench"), ("stup", "setup"), ("DOCS", "docs"), ("be", "bench")] {
            assert_eq!(nearest(typed, COMMANDS), Some(meant), "{typed}");
        }
    }

    #[test]
    fn another_word_is_not_a_slip() {
        assert_eq!(nearest("deploy", COMMANDS), None);
        assert_eq!(nearest("", COMMANDS), None);
    }

    #[test]
    fn distances_count_single_edits() {
        assert_eq!(distance("tidy", "tidy"), 0);
        assert_eq!(distance("tidy", "tydi"), 2);
        assert_eq!(distance("tset", "test"), 1, "a swap of neighbours is one slip");
        assert_eq!(distance("", "docs"), 4);
    }
}
