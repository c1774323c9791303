//! What a cache that was killed must hold: an exact model, but for the one operation that was under way.

use std::fmt;

use fastrand::Rng;

const NAMESPACES: [&str; 2] = ["a", "b"];
const SYMBOLS: u64 = 4;
const PARTS: u64 = 3;

/// Keys in the model; their numbers are `(namespace * SYMBOLS + symbol) * PARTS + part`.
pub const KEYS: usize = NAMESPACES.len() * (SYMBOLS * PARTS) as usize;

/// One operation of a child.
#[derive(Clone, Debug)]
pub enum Operation {
    Put { key: usize, value: u64 },
    PutMany { keys: Vec<usize>, value: u64 },
    Update { key: usize, value: u64 },
    Remove { key: usize },
    Tag { symbol: u64 },
    Pattern { symbol: u64, part: u64 },
    Namespace { name: &'static str },
    Everything,
}

impl Operation {
    /// What the child of a round does, without end. Values are unique over all rounds.
    pub fn sequence(seed: u64, round: u64) -> impl Iterator<Item = Operation> {
        let mut rng = Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ round);
        (0..).map(move |number| Operation::random(&mut rng, round << 32 | number))
    }

    fn random(rng: &mut Rng, value: u64) -> Self {
        let key = rng.usize(0..KEYS);
        let (symbol, part) = (rng.u64(0..SYMBOLS), rng.u64(0..PARTS));
        match rng.u32(0..100) {
            0..45 => Operation::Put { key, value },
            // The keys of one symbol, which are of one namespace.
            45..55 => Operation::PutMany { keys: (0..PARTS as usize).map(|part| key - key % PARTS as usize + part).collect(), value },
            55..70 => Operation::Update { key, value },
            70..83 => Operation::Remove { key },
            83..90 => Operation::Tag { symbol },
            90..97 => Operation::Pattern { symbol, part },
            97..99 => Operation::Namespace { name: NAMESPACES[rng.usize(0..NAMESPACES.len())] },
            _ => Operation::Everything,
        }
    }

    /// The keys it writes or invalidates, and what they hold after.
    fn effect(&self) -> (Vec<usize>, Option<u64>) {
        let those = |holds: &dyn Fn(usize) -> bool| (0..KEYS).filter(|key| holds(*key)).collect();
        match self {
            Operation::Put { key, value } | Operation::Update { key, value } => (vec![*key], Some(*value)),
            Operation::PutMany { keys, value } => (keys.clone(), Some(*value)),
            Operation::Remove { key } => (vec![*key], None),
            Operation::Tag { symbol } => (those(&|key| symbol_of(key) == *symbol), None),
            Operation::Pattern { symbol, part } => (those(&|key| symbol_of(key) == *symbol && part_of(key) == *part), None),
            Operation::Namespace { name } => (those(&|key| namespace_of(key) == *name), None),
            Operation::Everything => ((0..KEYS).collect(), None),
        }
    }
}

pub fn namespace_of(key: usize) -> &'static str {
    NAMESPACES[key / (SYMBOLS * PARTS) as usize]
}

pub fn symbol_of(key: usize) -> u64 {
    key as u64 / PARTS % SYMBOLS
}

fn part_of(key: usize) -> u64 {
    key as u64 % PARTS
}

/// A key within its namespace.
pub fn name_of(key: usize) -> String {
    format!("S{}:p{}", symbol_of(key), part_of(key))
}

/// The pattern over whole keys of a symbol's part in every namespace.
pub fn pattern_of(symbol: u64, part: u64) -> String {
    format!("*:S{symbol}:p{part}")
}

/// What may be found under each key.
pub struct Model {
    /// Whether an acknowledged put has to be there.
    durable: bool,
    keys: Vec<Vec<Option<u64>>>,
    operations: u64,
    kept: u64,
    gone: u64,
}

impl Model {
    pub fn new(durable: bool) -> Self {
        Model { durable, keys: vec![vec![None]; KEYS], operations: 0, kept: 0, gone: 0 }
    }

    pub fn acknowledged(&mut self, operation: &Operation) {
        let (keys, value) = operation.effect();
        self.operations += 1;
        for key in keys {
            self.gone += u64::from(self.keys[key] != [None]);
            self.keys[key] = match value {
                // A value that waits for no disk may be lost; what was there before must not be seen again.
                Some(value) if !self.durable => vec![Some(value), None],
                value => vec![value],
            };
        }
    }

    /// It may have taken effect or not. Half of a put is a value that is gone, and none in its place.
    pub fn under_way(&mut self, operation: &Operation) {
        let (keys, value) = operation.effect();
        for key in keys {
            self.keys[key].extend([value, None]);
        }
    }

    /// The log is gone, and with it whatever could be believed.
    pub fn forget_everything(&mut self) {
        self.keys = vec![vec![None]; KEYS];
    }

    /// What is wrong with what was found. From here on what was found is what there is.
    pub fn compare(&mut self, found: &[Option<u64>]) -> Vec<String> {
        let mut faults = Vec::new();
        for (key, found) in found.iter().enumerate() {
            let allowed = std::mem::replace(&mut self.keys[key], vec![*found]);
            self.kept += u64::from(found.is_some());
            let shown = format!("{}:{}", namespace_of(key), name_of(key));
            match found {
                found if allowed.contains(found) => {}
                None => faults.push(format!("{shown} is lost: it was acknowledged, one of {allowed:x?}")),
                Some(value) => faults.push(format!("{shown} is back: {value:x} was found where one of {allowed:x?} is right")),
            }
        }
        faults
    }

    /// How many values were found after a kill.
    pub fn kept(&self) -> u64 {
        self.kept
    }

    /// How many values were replaced or invalidated.
    pub fn gone(&self) -> u64 {
        self.gone
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} operations acknowledged, {} values found again, {} replaced or invalidated", self.operations, self.kept, self.gone)
    }
}
