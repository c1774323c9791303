//! How two patterns lie to each other: whether one takes in all that the other does, and whether any key can be in both.
//!
//! For those who may only act on what they have the right to, so both answers are for the careful: "covers" is said only where it is
//! proven, and "apart" only where that is. A glob is compared with a glob by what it begins with; anything cleverer would have to be right
//! in every corner to be of any use.

use super::glob::Glob;
use super::{Pattern, Place};

impl Pattern {
    /// Whether every key that matches `other` surely matches this pattern, too. `false` says that it could not be proven.
    ///
    /// ```
    /// use larder::Pattern;
    /// let of = |text: &str| text.parse::<Pattern>().unwrap();
    /// assert!(of("features:**").covers(&of("features:*:5m")));
    /// assert!(!of("features:*").covers(&of("features:**")));
    /// ```
    pub fn covers(&self, other: &Pattern) -> bool {
        let (mine, theirs) = (self.places.len(), other.places.len());
        let lengths = if other.open { self.open && mine <= theirs } else { mine == theirs || (self.open && mine <= theirs) };
        lengths && self.places.iter().zip(&other.places).all(|(mine, theirs)| mine.covers(theirs))
    }

    /// Whether surely no key matches both this pattern and `other`. `false` says that some may.
    ///
    /// ```
    /// use larder::Pattern;
    /// let of = |text: &str| text.parse::<Pattern>().unwrap();
    /// assert!(of("features:**").is_apart_from(&of("prices:**")));
    /// assert!(!of("features:**").is_apart_from(&of("*:AAPL")));
    /// ```
    pub fn is_apart_from(&self, other: &Pattern) -> bool {
        let (mine, theirs) = (self.places.len(), other.places.len());
        let lengths_meet = match (self.open, other.open) {
            (true, true) => true,
            (true, false) => mine <= theirs,
            (false, true) => theirs <= mine,
            (false, false) => mine == theirs,
        };
        !lengths_meet || self.places.iter().zip(&other.places).any(|(mine, theirs)| mine.is_apart_from(theirs))
    }
}

impl Place {
    fn covers(&self, other: &Place) -> bool {
        match (self, other) {
            (Place::Any, _) => true,
            (Place::Literal(mine), Place::Literal(theirs)) => mine == theirs,
            (Place::Glob(mine), Place::Literal(theirs)) => mine.matches(theirs),
            (Place::Glob(mine), Place::Glob(theirs)) => mine.covers(theirs),
            (Place::Literal(_) | Place::Glob(_), Place::Any) | (Place::Literal(_), Place::Glob(_)) => false,
        }
    }

    fn is_apart_from(&self, other: &Place) -> bool {
        match (self, other) {
            (Place::Any, _) | (_, Place::Any) => false,
            (Place::Literal(mine), Place::Literal(theirs)) => mine != theirs,
            (Place::Glob(glob), Place::Literal(literal)) | (Place::Literal(literal), Place::Glob(glob)) => !glob.matches(literal),
            (Place::Glob(mine), Place::Glob(theirs)) => mine.begins_apart_from(theirs),
        }
    }
}

impl Glob {
    /// Where they are the same, or this is some bytes and a star, and the other begins with those bytes.
    fn covers(&self, other: &Glob) -> bool {
        self == other || self.as_prefix().is_some_and(|prefix| other.leading().starts_with(&prefix))
    }

    /// Where what they begin with differs.
    fn begins_apart_from(&self, other: &Glob) -> bool {
        let (mine, theirs) = (self.leading(), other.leading());
        let common = mine.len().min(theirs.len());
        mine[..common] != theirs[..common]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::small_key;
    use super::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_taken_in_and_what_is_apart() {
        for (wide, narrow) in [
            ("**", "**"),
            ("**", "a:b*:c"),
            ("a:**", "a"),
            ("a:**", "a:**"),
            ("a:**", "a:b:**"),
            ("a:*", "a:b"),
            ("a:*:c", "a:b:c"),
            ("a:fe*", "a:fe"),
            ("a:fe*", "a:fea[0-9]*"),
            ("*:b", "a*:b"),
        ] {
            assert!(pattern(wide).covers(&pattern(narrow)), "{wide} covers {narrow}");
            assert!(!pattern(wide).is_apart_from(&pattern(narrow)), "{wide} meets {narrow}");
        }
        for (one, other) in [("a:*", "a:**"), ("a:b", "a:*"), ("a:fe*", "a:f*"), ("a:b:**", "a:**"), ("[ab]", "a*"), (r"a\*", "a*")] {
            assert!(!pattern(one).covers(&pattern(other)), "{one} does not cover {other}");
        }
        for (one, other) in [("a:**", "b:**"), ("a", "a:b"), ("a:b:**", "a"), ("a:f*", "a:g*"), ("a:[xy]", "a:z")] {
            assert!(pattern(one).is_apart_from(&pattern(other)) && pattern(other).is_apart_from(&pattern(one)), "{one} and {other}");
        }
    }

    fn any_pattern() -> impl Strategy<Value = String> {
        let place =
            prop_oneof![3 => "[ab]{0,2}", 2 => Just("*".to_owned()), 2 => "[ab]{0,1}[*?]{1,2}[ab]{0,1}", 1 => Just("[ab]".to_owned())];
        (proptest::collection::vec(place, 0..4), any::<bool>())
            .prop_map(|(mut parts, open)| {
                if open || parts.is_empty() {
                    parts.push("**".into());
                }
                parts.join(":")
            })
            .prop_filter("patterns are not empty, and have ** at their end alone", |text| Pattern::new(text).is_ok())
    }

    proptest! {
        #[test]
        fn what_is_covered_is_matched_and_what_is_apart_is_never_met(one in any_pattern(), other in any_pattern(), key in small_key()) {
            let (one, other) = (pattern(&one), pattern(&other));
            let (in_one, in_other) = (one.matches(key.as_bytes()), other.matches(key.as_bytes()));
            prop_assert!(!one.covers(&other) || !in_other || in_one);
            prop_assert!(!(one.is_apart_from(&other) && in_one && in_other));
            prop_assert!(one.covers(&one) && !(one.covers(&other) && one.is_apart_from(&other)));
            prop_assert_eq!(one.is_apart_from(&other), other.is_apart_from(&one));
        }

        #[test]
        fn a_literal_is_covered_by_what_matches_it(text in any_pattern(), key in small_key()) {
            let (text, literal) = (pattern(&text), Pattern::literal(key.as_bytes()));
            prop_assert_eq!(text.covers(&literal), text.matches(key.as_bytes()));
            prop_assert_eq!(!text.is_apart_from(&literal), text.matches(key.as_bytes()));
        }
    }
}
