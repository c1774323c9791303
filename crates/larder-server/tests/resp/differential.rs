//! Two servers, told the same: whatever is asked of one is asked of the other, and their replies are compared. What was asked before is
//! kept, for the story of a difference.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use larder_testkit::wait;

use super::compare::{agree, rule};
use super::intended;
use super::sides::Sides;
use super::wire::{Client, Reply, Value, Words, encoded, shown, shown_words};

/// How many commands are told that led to a difference.
const STORY: usize = 12;

/// How long a key that lives for milliseconds may be seen: a machine may be busy.
const GONE_MAX: Duration = Duration::from_secs(20);

/// How many pages a scan may have; the keyspaces here are small.
const PAGES_MAX: usize = 10_000;

/// A place where the servers disagree.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The command's name, and what kinds of reply there were: by which differences of one origin are recognised.
    pub kind: String,
    /// All of it.
    pub story: String,
}

/// A connection to each, and what was said over them.
pub struct Both {
    clients: [Client; 2],
    told: VecDeque<String>,
    /// The commands since `MULTI`, whose replies come with `EXEC`.
    queued: Option<Vec<Words>>,
    /// What was found, a few of each kind.
    pub differences: Vec<Difference>,
    /// How many replies were compared.
    pub compared: u64,
    /// How many of them differ on purpose.
    pub intended: u64,
}

/// What came of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    /// On purpose; but what the servers hold is no longer the same.
    Intended,
    Different,
}

impl Both {
    /// Connects to both.
    pub fn connect(sides: &Sides) -> Self {
        Both { clients: sides.clients(), told: VecDeque::new(), queued: None, differences: Vec::new(), compared: 0, intended: 0 }
    }

    /// Asks both, and compares. Whether they agree.
    pub fn ask(&mut self, words: &Words) -> bool {
        self.ask_all(std::slice::from_ref(words), &[])
    }

    /// The same with words as text.
    pub fn run(&mut self, line: &str) -> bool {
        self.ask(&super::wire::words(line))
    }

    /// Sends several commands at once, cut at these places, and compares all replies. Whether they all agree.
    pub fn ask_all(&mut self, commands: &[Words], cuts: &[usize]) -> bool {
        let bytes: Vec<u8> = commands.iter().flat_map(|words| encoded(words)).collect();
        for client in &mut self.clients {
            let mut from = 0;
            for &cut in cuts.iter().filter(|&&cut| cut < bytes.len()) {
                client.send(&bytes[from.min(cut)..cut]).expect("the server takes commands");
                from = from.max(cut);
            }
            client.send(&bytes[from..]).expect("the server takes commands");
        }
        // Every reply is waited for; but what comes after a difference in the same breath is not judged, as it may follow from it.
        let mut is_same = true;
        for words in commands {
            is_same = self.compare(words, is_same) && is_same;
        }
        is_same
    }

    /// Waits for the reply of each to this command, which both were sent.
    fn compare(&mut self, words: &Words, is_judged: bool) -> bool {
        let [one, other] = self.replies(words);
        let verdict = match self.executed(words, &one) {
            _ if !is_judged => Verdict::Same,
            Some(queued) => all_agree(&queued, &one, &other),
            None => judge(words, &one.value, &other.value, one.raw == other.raw),
        };
        self.note(words, &one);
        match verdict {
            Verdict::Same => {}
            Verdict::Intended => self.intended += 1,
            Verdict::Different => self.differ(words, &one, &other),
        }
        verdict == Verdict::Same
    }

    /// The commands whose replies this reply has, if it is that of a transaction. What is queued from now on is known.
    fn executed(&mut self, words: &Words, reply: &Reply) -> Option<Vec<Words>> {
        let name = words.first().map(|word| word.to_ascii_uppercase()).unwrap_or_default();
        let is_queued = reply.value.bytes() == Some(b"QUEUED");
        match (&name[..], &mut self.queued) {
            (_, Some(queued)) if is_queued => queued.push(words.clone()),
            (b"MULTI", None) if reply.value.bytes() == Some(b"OK") => self.queued = Some(Vec::new()),
            (b"EXEC", Some(_)) => return self.queued.take(),
            (b"DISCARD" | b"RESET", Some(_)) if reply.value.error().is_none() => self.queued = None,
            _ => {}
        }
        None
    }

    fn replies(&mut self, words: &Words) -> [Reply; 2] {
        let story = self.story();
        let mut side = 0;
        self.clients.each_mut().map(|client| {
            side += 1;
            client.reply().unwrap_or_else(|error| {
                panic!("{} does not answer {}: {error}\n{story}", ["Redis", "larder"][side - 1], shown_words(words))
            })
        })
    }

    /// Scans all of both, from the first page to the last, and compares what is found; errors as they are.
    pub fn scan(&mut self, options: &Words) -> bool {
        let command = |cursor: &[u8]| -> Words { [b"SCAN".to_vec(), cursor.to_vec()].into_iter().chain(options.iter().cloned()).collect() };
        let [found, others] = self.clients.each_mut().map(|client| {
            let (mut found, mut cursor) = (BTreeSet::new(), b"0".to_vec());
            for _ in 0..PAGES_MAX {
                let reply = client.ask(&command(&cursor)).expect("a scan is answered");
                let Some([Value::Bulk(b'$', Some(next)), Value::Parts(b'*', Some(keys))]) = reply.value.parts() else { return Err(reply) };
                found.extend(keys.iter().cloned());
                if next == b"0" {
                    return Ok(found);
                }
                cursor.clone_from(next);
            }
            panic!("a scan of {} has no end", shown_words(options));
        });
        self.compared += 1;
        let words = command(b"0");
        let is_same = match (&found, &others) {
            (Ok(found), Ok(others)) => found == others,
            (Err(one), Err(other)) => one.raw == other.raw || intended::reason(&words, &one.value, &other.value).is_some(),
            _ => false,
        };
        if !is_same {
            let [one, other] = [&found, &others].map(|found| match found {
                Ok(keys) => format!("{} keys: {keys:?}", keys.len()),
                Err(reply) => reply.to_string(),
            });
            self.push_difference("SCAN".into(), format!("{}\n  Redis:  {one}\n  larder: {other}", shown_words(&words)));
        }
        is_same
    }

    /// Waits until the key is gone on both.
    ///
    /// # Panics
    /// If it stays.
    pub fn wait_until_gone(&mut self, key: &[u8]) {
        for (client, name) in self.clients.iter_mut().zip(["Redis", "larder"]) {
            let gone = wait::until(GONE_MAX, || client.ask(&[b"EXISTS", key]).expect("it answers").value.integer() == Some(0));
            assert!(gone, "{name} keeps {} though its time is over", shown(key));
        }
    }

    /// Empties both, for a new beginning after a difference: what follows must not be blamed for what was before.
    pub fn begin_anew(&mut self) {
        self.queued = None;
        for client in &mut self.clients {
            for words in [&["DISCARD"][..], &["FLUSHALL"], &["UNWATCH"]] {
                // There may be nothing to discard.
                client.ask(words).expect("it answers");
            }
        }
        self.told.clear();
    }

    /// The connections themselves.
    pub fn clients(&mut self) -> &mut [Client; 2] {
        &mut self.clients
    }

    fn note(&mut self, words: &Words, reply: &Reply) {
        self.compared += 1;
        if self.told.len() == STORY {
            self.told.pop_front();
        }
        self.told.push_back(format!("{}  ->  {reply}", shown_words(words)));
    }

    fn story(&self) -> String {
        self.told.iter().map(|line| format!("    {line}\n")).collect()
    }

    fn differ(&mut self, words: &Words, one: &Reply, other: &Reply) {
        let name = words.first().map(|word| shown(&word.to_ascii_uppercase())).unwrap_or_default();
        let kind = format!("{name}:{}{}", kind_of(one), kind_of(other));
        self.push_difference(kind, format!("{}\n  Redis:  {one}\n  larder: {other}", shown_words(words)));
    }

    fn push_difference(&mut self, kind: String, what: String) {
        /// Of one kind.
        const TOLD_MAX: usize = 2;
        if self.differences.iter().filter(|told| told.kind == kind).count() < TOLD_MAX {
            let story = format!("{what}\n  after:\n{}", self.story());
            self.differences.push(Difference { kind, story });
        }
    }

    /// Fails with all that was found.
    pub fn expect_no_difference(&self, context: &str) {
        let stories: Vec<&str> = self.differences.iter().map(|difference| difference.story.as_str()).collect();
        assert!(stories.is_empty(), "{context}: {} differences in {} replies:\n{}", stories.len(), self.compared, stories.join("\n"));
    }
}

fn judge(words: &Words, one: &Value, other: &Value, is_same: bool) -> Verdict {
    if is_same || agree(&rule(words), one, other) {
        Verdict::Same
    } else if intended::reason(words, one, other).is_some() {
        Verdict::Intended
    } else {
        Verdict::Different
    }
}

/// The replies of a transaction, each by its own command.
fn all_agree(queued: &[Words], one: &Reply, other: &Reply) -> Verdict {
    match (&one.value, &other.value) {
        _ if one.raw == other.raw => Verdict::Same,
        (Value::Parts(b'*', Some(ones)), Value::Parts(b'*', Some(others))) if ones.len() == others.len() && ones.len() == queued.len() => {
            let parts = queued.iter().zip(ones.iter().zip(others));
            let mut verdicts = parts.map(|(words, (one, other))| judge(words, one, other, one == other));
            // Those after the first that differs may follow from it.
            verdicts.find(|verdict| *verdict != Verdict::Same).unwrap_or(Verdict::Same)
        }
        _ => Verdict::Different,
    }
}

/// What a reply begins with, but for one that is nothing.
fn kind_of(reply: &Reply) -> String {
    let first = char::from(reply.raw.first().copied().unwrap_or(b'?'));
    if reply.value.is_nil() { "nil".to_owned() } else { first.to_string() }
}
