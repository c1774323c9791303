//! Commands at random: mostly such as make sense, over few keys so that they meet, and some that are broken in one place. Nothing here
//! makes a time to live that could end while the servers are compared, unless [`Generated::Brief`] says so.

use fastrand::Rng;

use super::wire::Words;

/// One thing to do.
#[derive(Debug)]
pub enum Generated {
    /// One command, or several in one packet cut at these places.
    Commands(Vec<Words>, Vec<usize>),
    /// A whole scan with these options.
    Scan(Words),
    /// A transaction: what comes before, what is changed by somebody else meanwhile, what is queued, and whether it is executed.
    Transaction { watched: Option<Words>, meddled: Option<Words>, queued: Vec<Words>, executes: bool },
    /// A command that gives this key a few milliseconds to live.
    Brief(Words, Vec<u8>),
}

/// Keys with every byte that a protocol of lines could stumble over.
const KEYS: [&[u8]; 9] = [b"a", b"b", b"c:1", b"c:2", b"\r\n", b"\0", b" ", b"\xff\xfe$5\r\nx", "ключ".as_bytes()];

const VALUES: [&[u8]; 24] = [
    b"",
    b"0",
    b"1",
    b"-1",
    b"41",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"9223372036854775808",
    b"007",
    b"+5",
    b"-0",
    b" 12",
    b"12 ",
    b"1.5",
    b"3.0e2",
    b"-2.5e-3",
    b"inf",
    b"nan",
    b"text",
    b"\r\n",
    b"*1\r\n$4\r\nPING\r\n",
    b"\0\xff\0",
    b"a value of forty-four bytes, which embstr is",
    b"a value of forty-five bytes, which raw must be",
];

/// What stands in the place of an argument that is broken.
const JUNK: [&[u8]; 20] = [
    b"",
    b"0",
    b"-1",
    b"abc",
    b"1.5",
    b"9223372036854775807",
    b"9223372036854775808",
    b"-9223372036854775808",
    b" 1",
    b"1 ",
    b"+1",
    b"1x",
    b"NX",
    b"xx",
    b"GET",
    b"KEEPTTL",
    b"EX",
    b"\r\n",
    b"\xff",
    b"99999999999999999999999999",
];

/// Times to live in seconds, far enough apart that a few milliseconds decide nothing; each is used once, so that none is compared with
/// itself a moment later.
const SECONDS: std::ops::Range<u32> = 1_000..1_000_000;

/// Moments far away, in seconds, and ones that are over.
const MOMENTS: [&str; 6] = ["4102444800", "4102444801", "33000000000", "1000000000", "1", "-5"];

/// Of these, the ones to come. A `SET` of what is over leaves a key in Redis that is counted until somebody or something meets it.
const MOMENTS_TO_COME: usize = 3;

/// Draws them.
pub struct Generator {
    random: Rng,
}

impl Generator {
    /// The same commands for the same seed.
    pub fn new(seed: u64) -> Self {
        Generator { random: Rng::with_seed(seed) }
    }

    /// The next thing to do.
    pub fn draw(&mut self) -> Generated {
        match self.random.u32(..100) {
            0..=4 => Generated::Scan(self.scan_options()),
            5..=10 => self.transaction(),
            11..=13 => self.brief(),
            14..=24 => {
                let commands: Vec<Words> = (0..self.random.usize(2..12)).map(|_| self.command()).collect();
                let mut cuts: Vec<usize> = (0..self.random.usize(..4)).map(|_| self.random.usize(1..400)).collect();
                cuts.sort_unstable();
                Generated::Commands(commands, cuts)
            }
            _ => Generated::Commands(vec![self.command()], Vec::new()),
        }
    }

    fn transaction(&mut self) -> Generated {
        let watched = self.random.bool().then(|| {
            let keys = (0..self.random.usize(1..3)).map(|_| self.key());
            std::iter::once(b"WATCH".to_vec()).chain(keys).collect()
        });
        let meddled = self.random.bool().then(|| self.well_formed());
        let queued = (0..self.random.usize(..5)).map(|_| self.command()).collect();
        Generated::Transaction { watched, meddled, queued, executes: self.random.u32(..5) > 0 }
    }

    fn brief(&mut self) -> Generated {
        let key = self.key();
        let milliseconds = self.random.u32(1..20).to_string().into_bytes();
        let words: Words = match self.random.u32(..4) {
            0 => vec![b"SET".to_vec(), key.clone(), self.value(), b"PX".to_vec(), milliseconds],
            1 => vec![b"PSETEX".to_vec(), key.clone(), milliseconds, self.value()],
            2 => vec![b"PEXPIRE".to_vec(), key.clone(), milliseconds],
            _ => vec![b"GETEX".to_vec(), key.clone(), b"px".to_vec(), milliseconds],
        };
        Generated::Brief(words, key)
    }

    /// A command that makes sense, or one with something broken.
    pub fn command(&mut self) -> Words {
        let mut words = self.well_formed();
        if self.random.u32(..12) == 0 {
            self.break_one(&mut words);
        }
        if self.random.u32(..8) == 0 {
            words[0] = self.in_other_case(&words[0].clone());
        }
        words
    }

    /// Leaves a word out, puts one in, or replaces one. The name stays, for all that a name does when it is another is known.
    fn break_one(&mut self, words: &mut Words) {
        let at = self.random.usize(1..=words.len());
        let junk = self.junk();
        match self.random.u32(..3) {
            0 if words.len() > 1 => drop(words.remove(at.min(words.len() - 1))),
            1 if at < words.len() => words[at] = junk,
            _ => words.insert(at, junk),
        }
    }

    fn in_other_case(&mut self, word: &[u8]) -> Vec<u8> {
        word.iter().map(|letter| if self.random.bool() { letter.to_ascii_lowercase() } else { letter.to_ascii_uppercase() }).collect()
    }

    fn junk(&mut self) -> Vec<u8> {
        JUNK[self.random.usize(..JUNK.len())].to_vec()
    }

    fn key(&mut self) -> Vec<u8> {
        KEYS[self.random.usize(..KEYS.len())].to_vec()
    }

    fn value(&mut self) -> Vec<u8> {
        if self.random.u32(..60) == 0 {
            return vec![self.random.u8(..); 64 << 10];
        }
        VALUES[self.random.usize(..VALUES.len())].to_vec()
    }

    fn seconds(&mut self) -> String {
        self.random.u32(SECONDS).to_string()
    }

    fn index(&mut self) -> String {
        self.random.i32(-70..70).to_string()
    }

    fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.random.usize(..choices.len())]
    }

    /// Zero to two of the choices that do not go well together.
    fn options(&mut self, choices: &[&str]) -> Vec<Vec<u8>> {
        let count = [0, 0, 1, 1, 1, 2][self.random.usize(..6)];
        let mut drawn = |_| {
            let word = self.one_of(choices);
            self.in_other_case(word.as_bytes())
        };
        (0..count).map(&mut drawn).collect()
    }

    fn keys(&mut self) -> Vec<Vec<u8>> {
        (0..self.random.usize(1..5)).map(|_| self.key()).collect()
    }

    fn scan_options(&mut self) -> Words {
        let mut words = Vec::new();
        if self.random.bool() {
            words.extend([b"MATCH".to_vec(), self.pattern()]);
        }
        if self.random.bool() {
            words.extend([b"count".to_vec(), self.one_of(&["1", "3", "1000"]).into()]);
        }
        if self.random.u32(..3) == 0 {
            words.extend([b"TYPE".to_vec(), self.one_of(&["string", "STRING", "hash", "list", "nothing"]).into()]);
        }
        if self.random.u32(..12) == 0 {
            let at = self.random.usize(..=words.len());
            words.insert(at, self.one_of(&["COUNT", "0", "-1", "abc", "MATCH", "NOVALUES"]).into());
        }
        words
    }

    fn pattern(&mut self) -> Vec<u8> {
        const PATTERNS: [&[u8]; 16] =
            [b"*", b"a", b"c:*", b"c:?", b"[ab]", b"[^a]", b"[a-c]*", b"\\*", b"?", b"??*", b"", b"[", b"*\n", b"[b-a]", b"[a", b"\xff*"];
        PATTERNS[self.random.usize(..PATTERNS.len())].to_vec()
    }

    /// A name, then whatever follows it.
    fn of(&mut self, name: &str, rest: impl IntoIterator<Item = Vec<u8>>) -> Words {
        std::iter::once(name.as_bytes().to_vec()).chain(rest).collect()
    }

    fn set(&mut self) -> Words {
        let (key, value) = (self.key(), self.value());
        let mut options = self.options(&["NX", "XX", "GET", "KEEPTTL"]);
        if self.random.u32(..3) == 0 {
            let seconds = self.seconds();
            let moment = self.one_of(&MOMENTS[..MOMENTS_TO_COME]);
            let (name, time) = match self.random.u32(..4) {
                0 => ("EX", seconds),
                1 => ("px", seconds + "000"),
                2 => ("EXAT", moment.to_owned()),
                _ => ("PXAT", moment.to_owned() + "000"),
            };
            let at = self.random.usize(..=options.len());
            options.splice(at..at, [name.as_bytes().to_vec(), time.into_bytes()]);
        }
        self.of("SET", [key, value].into_iter().chain(options))
    }

    fn expire(&mut self) -> Words {
        let (key, seconds) = (self.key(), self.seconds());
        let moment = self.one_of(&MOMENTS);
        let is_over = self.random.u32(..8) == 0;
        let (name, time) = match self.random.u32(..4) {
            0 | 1 if is_over => ("EXPIRE", self.one_of(&["0", "-1", "-1000000"]).to_owned()),
            0 => ("EXPIRE", seconds),
            1 => ("PEXPIRE", seconds + "000"),
            2 => ("EXPIREAT", moment.to_owned()),
            _ => ("PEXPIREAT", moment.to_owned() + "000"),
        };
        let options = self.options(&["NX", "XX", "GT", "LT"]);
        self.of(name, [key, time.into_bytes()].into_iter().chain(options))
    }

    fn getex(&mut self) -> Words {
        let key = self.key();
        let (seconds, moment) = (self.seconds(), self.one_of(&MOMENTS).to_owned());
        let options = match self.random.u32(..6) {
            0 => vec!["EX".to_owned(), seconds],
            1 => vec!["PX".to_owned(), seconds + "000"],
            2 => vec!["exat".to_owned(), moment],
            3 => vec!["PXAT".to_owned(), moment + "000"],
            4 => vec!["PERSIST".to_owned()],
            _ => Vec::new(),
        };
        self.of("GETEX", std::iter::once(key).chain(options.into_iter().map(String::into_bytes)))
    }

    fn well_formed(&mut self) -> Words {
        let (key, value) = (self.key(), self.value());
        match self.random.u32(..58) {
            0..=7 => self.set(),
            8..=11 => self.of("GET", [key]),
            12 => self.of("SETNX", [key, value]),
            13 => {
                let seconds = self.seconds().into_bytes();
                self.of("SETEX", [key, seconds, value])
            }
            14 => {
                let milliseconds = (self.seconds() + "000").into_bytes();
                self.of("PSETEX", [key, milliseconds, value])
            }
            15 => self.of("GETSET", [key, value]),
            16 => self.of("GETDEL", [key]),
            17 | 18 => self.getex(),
            19 | 20 => {
                let keys = self.keys();
                self.of("MGET", keys)
            }
            21 | 22 => {
                let pairs: Vec<Vec<u8>> = (0..self.random.usize(1..4)).flat_map(|_| [self.key(), self.value()]).collect();
                self.of("MSET", pairs)
            }
            23 | 24 => self.of("APPEND", [key, value]),
            25 => self.of("STRLEN", [key]),
            26 | 27 => {
                let ends = [self.index().into_bytes(), self.index().into_bytes()];
                self.of("GETRANGE", std::iter::once(key).chain(ends))
            }
            28 | 29 => self.of("INCR", [key]),
            30 => self.of("DECR", [key]),
            31 | 32 => {
                let name = self.one_of(&["INCRBY", "DECRBY"]);
                let by = self.one_of(&["1", "-7", "1000000", "9223372036854775807", "-9223372036854775808", "0", "abc", "1.5", ""]);
                self.of(name, [key, by.into()])
            }
            33 => {
                let by = self.one_of(&["1.5", "-2.25", "3", "0.5", "1e3", "abc", "inf", "nan", "", " 1"]);
                self.of("INCRBYFLOAT", [key, by.into()])
            }
            34..=38 => {
                let (name, keys) = (self.one_of(&["DEL", "UNLINK", "EXISTS", "TOUCH"]), self.keys());
                self.of(name, keys)
            }
            39 => self.of("TYPE", [key]),
            40..=44 => self.expire(),
            45..=48 => {
                let name = self.one_of(&["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"]);
                self.of(name, [key])
            }
            49 => self.of("PERSIST", [key]),
            50 | 51 => {
                let pattern = self.pattern();
                self.of("KEYS", [pattern])
            }
            52 => self.of("DBSIZE", []),
            53 => self.of("RANDOMKEY", []),
            54 => {
                let name = self.one_of(&["ENCODING", "FREQ", "IDLETIME", "nothing"]);
                self.of("OBJECT", [name.into(), key])
            }
            55 => {
                let name = self.one_of(&["ECHO", "PING"]);
                self.of(name, [value])
            }
            56 if self.random.u32(..4) == 0 => {
                let name = self.one_of(&["FLUSHDB", "FLUSHALL"]);
                let options = self.options(&["ASYNC", "SYNC"]);
                self.of(name, options)
            }
            _ => {
                let name = self.one_of(&["NOSUCH", "HSET", "a\r\nb", "\u{e9}", "CONFIG\0"]);
                let arguments = self.keys();
                if name == "HSET" { self.of("nosuch|sub", arguments) } else { self.of(name, arguments) }
            }
        }
    }
}
