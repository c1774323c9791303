//! The process that is killed: opens the folder, says what it finds, then works and says what was acknowledged.

use std::io::Write;
use std::path::Path;

use larder::{Durability, Item, Larder, Names, Namespace};

use crate::model::{self, KEYS, Operation};

/// The line before the folder is opened.
pub const OPENING: &str = "opening";

/// What a line begins with that says what was found under the next key.
pub const FOUND: &str = "found ";

/// The line of an operation that returned.
pub const ACKNOWLEDGED: &str = "acknowledged";

const DATA: &str = "LARDER_KILL_DATA";
const SEED: &str = "LARDER_KILL_SEED";
const ROUND: &str = "LARDER_KILL_ROUND";
const DURABILITY: &str = "LARDER_KILL_DURABILITY";

/// What makes a process a child.
pub fn environment(data: &Path, seed: u64, round: u64, durability: Durability) -> [(&'static str, String); 4] {
    let data = data.to_str().expect("temporary folders have names that are text");
    [(DATA, data.into()), (SEED, seed.to_string()), (ROUND, round.to_string()), (DURABILITY, format!("{durability:?}"))]
}

/// Works until it is killed; returns at once in a process that is no child.
pub fn live() {
    let Ok(data) = std::env::var(DATA) else { return };
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok()).expect("the parent sets all of them");
    let durability = if std::env::var(DURABILITY).as_deref() == Ok("Fsync") { Durability::Fsync } else { Durability::Os };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime starts");
    runtime.block_on(work(Path::new(&data), number(SEED), number(ROUND), durability));
}

async fn work(data: &Path, seed: u64, round: u64, durability: Durability) {
    // On a line of its own, behind what the test harness has begun to say.
    say(&format!("\n{OPENING}"));
    let builder = Larder::builder().data(data).memory(1 << 20).index_bytes(64 << 10);
    let larder = builder.durability(durability).put_durability(durability).build().await.expect("the folder opens");
    let spaces = ["a", "b"].map(|name| larder.namespace::<u64>(name).expect("a namespace opens"));
    let space = |key| &spaces[usize::from(model::namespace_of(key) == "b")];
    for key in 0..KEYS {
        let found = space(key).get(model::name_of(key)).await.expect("a get works");
        say(&format!("{FOUND}{}", found.map_or("nothing".into(), |value| value.to_string())));
    }
    for operation in Operation::sequence(seed, round) {
        perform(&larder, space, operation).await;
        say(ACKNOWLEDGED);
    }
}

/// A line at once, in one write: the parent may be reading, or about to kill.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).expect("the parent listens");
}

async fn perform<'a>(larder: &Larder, space: impl Fn(usize) -> &'a Namespace<u64>, operation: Operation) {
    let tagged = |key, value| Item::new(value).tag(format!("symbol:S{}", model::symbol_of(key)));
    // The position is nobody's concern here: that the operation returned is all that is acknowledged.
    let _receipt = match operation {
        Operation::Put { key, value } => space(key).put(model::name_of(key), tagged(key, value)).await,
        Operation::PutMany { keys, value } => {
            let items = keys.iter().map(|key| (model::name_of(*key), tagged(*key, value)));
            space(keys[0]).put_many(items).await
        }
        Operation::Update { key, value } => {
            let item = tagged(key, value);
            let updated = space(key).update(model::name_of(key), || async { Ok::<_, std::io::Error>(item) }).await;
            updated.map(|updated| updated.receipt)
        }
        Operation::Remove { key } => space(key).remove(model::name_of(key)).await,
        Operation::Tag { symbol } => larder.invalidate(Names::new().tag(format!("symbol:S{symbol}"))).await,
        Operation::Pattern { symbol, part } => larder.invalidate(Names::new().pattern(model::pattern_of(symbol, part))).await,
        Operation::Namespace { name } => larder.invalidate(Names::new().namespace(name)).await,
        Operation::Everything => larder.invalidate(Names::new().everything()).await,
    }
    .expect("a healthy cache does what it is told");
}
