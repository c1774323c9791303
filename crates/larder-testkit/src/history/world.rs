//! The source of truth behind a cache under test: counters that only grow, and the keys that are made of them.
//!
//! A subject is a key `namespace:symbol:part`. It is made of three items: its own, its symbol's and its part's; the entry
//! carries a tag for each of the last two. So a subject can be reached by its key, by two tags, and by any pattern over
//! three segments.

use std::sync::atomic::{AtomicU64, Ordering};

/// See the head of this file.
#[derive(Debug)]
pub struct World {
    counters: Vec<AtomicU64>,
    subjects: Vec<Subject>,
    symbols: usize,
}

/// Something that is cached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its namespace.
    pub namespace: &'static str,
    /// Its symbol's number.
    pub symbol: usize,
    /// Its part's number.
    pub part: usize,
    /// The items it is made of: its own, its symbol's, its part's.
    pub items: [usize; 3],
}

/// Some subjects: those that agree in everything that is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Those of one namespace.
    pub namespace: Option<&'static str>,
    /// Those of one symbol.
    pub symbol: Option<usize>,
    /// Those of one part.
    pub part: Option<usize>,
}

impl World {
    /// A world in which each namespace has every part of every symbol.
    pub fn new(namespaces: &[&'static str], symbols: usize, parts: usize) -> Self {
        let mut subjects = Vec::new();
        for namespace in namespaces {
            for (symbol, part) in (0..symbols).flat_map(|symbol| (0..parts).map(move |part| (symbol, part))) {
                let own = symbols + parts + subjects.len();
                subjects.push(Subject { namespace, symbol, part, items: [own, symbol, symbols + part] });
            }
        }
        let counters = (0..symbols + parts + subjects.len()).map(|_| AtomicU64::new(0)).collect();
        World { counters, subjects, symbols }
    }

    /// All subjects; their numbers are their places.
    pub fn subjects(&self) -> &[Subject] {
        &self.subjects
    }

    /// The item of a symbol.
    pub fn symbol_item(&self, symbol: usize) -> usize {
        symbol
    }

    /// The item of a part.
    pub fn part_item(&self, part: usize) -> usize {
        self.symbols + part
    }

    /// Changes an item.
    pub fn change(&self, item: usize) {
        self.counters[item].fetch_add(1, Ordering::SeqCst);
    }

    /// All counters. Not at one moment, which nobody needs: each is at most what it is when this returns.
    pub fn counters(&self) -> Vec<u64> {
        self.counters.iter().map(|counter| counter.load(Ordering::SeqCst)).collect()
    }

    /// One counter.
    pub fn counter(&self, item: usize) -> u64 {
        self.counters[item].load(Ordering::SeqCst)
    }

    /// Whether, at this count of its own item, a subject does not exist at all.
    pub fn is_absent_at(own: u64) -> bool {
        own % 4 == 3
    }

    /// The numbers of the subjects of a selection.
    pub fn select(&self, selection: Selection) -> Vec<usize> {
        (0..self.subjects.len()).filter(|at| selection.contains(&self.subjects[*at])).collect()
    }
}

impl Subject {
    /// Its key within its namespace.
    pub fn key(&self) -> String {
        format!("S{}:p{}", self.symbol, self.part)
    }

    /// Its whole key.
    pub fn whole_key(&self) -> String {
        format!("{}:{}", self.namespace, self.key())
    }

    /// What of some counters it is made of.
    pub fn of(&self, counters: &[u64]) -> Vec<u64> {
        self.items.iter().map(|item| counters[*item]).collect()
    }
}

impl Selection {
    fn contains(&self, subject: &Subject) -> bool {
        self.namespace.is_none_or(|namespace| namespace == subject.namespace)
            && self.symbol.is_none_or(|symbol| symbol == subject.symbol)
            && self.part.is_none_or(|part| part == subject.part)
    }

    /// The pattern over whole keys that matches these subjects. With `glob`, it is written so that it cannot be hashed.
    pub fn pattern(&self, glob: bool) -> String {
        let symbol = self.symbol.map_or("*".into(), |symbol| if glob { format!("[S]{symbol}") } else { format!("S{symbol}") });
        let part = self.part.map_or("*".into(), |part| if glob { format!("?{part}") } else { format!("p{part}") });
        format!("{}:{symbol}:{part}", self.namespace.unwrap_or("*"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_know_what_they_are_made_of() {
        let world = World::new(&["a", "b"], 2, 2);
        world.change(world.symbol_item(1));
        world.change(world.part_item(0));
        let subject = &world.subjects()[6];
        assert_eq!((subject.whole_key().as_str(), subject.of(&world.counters())), ("b:S1:p0", vec![0, 1, 1]));
        world.change(subject.items[0]);
        assert_eq!(world.counter(subject.items[0]), 1);
    }

    #[test]
    fn a_selection_and_its_pattern_say_the_same() {
        let world = World::new(&["a", "b"], 2, 2);
        let selection = Selection { symbol: Some(1), part: Some(0), ..Selection::default() };
        assert_eq!(world.select(selection), [2, 6]);
        assert_eq!((selection.pattern(false).as_str(), selection.pattern(true).as_str()), ("*:S1:p0", "*:[S]1:?0"));
        assert_eq!(world.select(Selection::default()).len(), 8);
    }
}
