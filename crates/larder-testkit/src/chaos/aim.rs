//! What a client does next, by its seed: which subjects it takes, how much they weigh, when it rests; and what it invalidates: some
//! name, the subjects that it covers, and the item of the world that changes before. It knows no cache; whoever drives one says the
//! name in that one's words.

use std::time::Duration;

use fastrand::Rng;

use crate::history::{Selection, World};
use crate::wait;

/// One of the namespaces, and some subjects of it, at most `most`.
///
/// # Panics
/// If there is no namespace.
pub fn choose(world: &World, rng: &mut Rng, namespaces: &[&'static str], most: usize) -> (&'static str, Vec<usize>) {
    let namespace = *rng.choice(namespaces).expect("there are some");
    let mut numbers = world.select(Selection { namespace: Some(namespace), ..Selection::default() });
    rng.shuffle(&mut numbers);
    numbers.truncate(rng.usize(1..=most));
    (namespace, numbers)
}

/// Weight of a value, so that memory runs out.
pub fn padding(rng: &mut Rng) -> String {
    "x".repeat(rng.usize(0..16) * rng.usize(0..64))
}

/// Rests between two operations, for `pause` on average; now and then not at all, so that they follow each other closely, too.
pub async fn rest(rng: &mut Rng, pause: Duration) {
    if rng.u32(0..4) > 0 {
        let most = pause.as_micros() as u64 * 8 / 3;
        wait::pass(Duration::from_micros(rng.u64(0..=most))).await;
    }
}

/// A name to invalidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A whole key.
    Key(String),
    /// A tag.
    Tag(String),
    /// A pattern over whole keys.
    Pattern(String),
    /// A namespace.
    Namespace(&'static str),
    /// All there is.
    Everything,
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Aim {
    /// The name.
    pub name: Name,
    /// The numbers of the subjects that it covers.
    pub subjects: Vec<usize>,
    /// What changes in the world before.
    pub item: usize,
    /// What it is, for people.
    pub what: String,
}

impl Aim {
    /// A name by the seed: mostly a key, often a tag or a pattern, seldom a namespace or everything.
    pub fn take(world: &World, rng: &mut Rng) -> Self {
        let subject = rng.usize(0..world.subjects().len());
        let of = &world.subjects()[subject];
        let any = Selection::default();
        let (name, what, subjects, item) = match rng.u32(0..200) {
            0..120 => (Name::Key(of.whole_key()), of.whole_key(), vec![subject], of.items[0]),
            120..145 => {
                let tag = format!("symbol:S{}", of.symbol);
                let subjects = world.select(Selection { symbol: Some(of.symbol), ..any });
                (Name::Tag(tag.clone()), format!("the tag {tag}"), subjects, world.symbol_item(of.symbol))
            }
            145..155 => {
                let tag = format!("part:p{}", of.part);
                let subjects = world.select(Selection { part: Some(of.part), ..any });
                (Name::Tag(tag.clone()), format!("the tag {tag}"), subjects, world.part_item(of.part))
            }
            155..196 => {
                let selection = Selection {
                    namespace: Some(of.namespace).filter(|_| rng.u32(0..4) > 0),
                    symbol: Some(of.symbol),
                    part: Some(of.part).filter(|_| rng.bool()),
                };
                let pattern = selection.pattern(rng.bool());
                (Name::Pattern(pattern.clone()), format!("the pattern {pattern}"), world.select(selection), of.items[0])
            }
            196..199 => {
                let selection = Selection { namespace: Some(of.namespace), ..any };
                (Name::Namespace(of.namespace), format!("the namespace {}", of.namespace), world.select(selection), of.items[0])
            }
            _ => (Name::Everything, "everything".to_owned(), world.select(any), of.items[1]),
        };
        Aim { name, subjects, item, what: format!("invalidation of {what}") }
    }
}
