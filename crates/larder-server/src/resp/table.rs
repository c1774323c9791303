//! Every command there is, declared once: its name, how many words it has, what it does to what, and what it is for. The server looks
//! commands up here; `COMMAND` and its like, and what is counted, are made of it.
//!
//! To add a command: a row here, and an arm in [`commands`](super::commands) that carries it out.

use std::collections::HashMap;
use std::sync::LazyLock;

use Flag::{Admin, Fast, Immediate, NoAuth, Readonly, Write};

/// A command, or one of the subcommands of one.
#[derive(Debug)]
pub struct Command {
    /// In small letters; `client|id` for a subcommand.
    pub name: &'static str,
    /// Words of a call, the name included (for a subcommand both); `-n`: at least n.
    pub arity: i32,
    /// What it is allowed to, and how it behaves.
    pub flags: &'static [Flag],
    /// Which of its words are keys.
    pub keys: Keys,
    /// The category of access control that it is in, beside those that follow from its flags.
    pub group: Group,
    /// Since which version of Redis, or of larder.
    pub since: &'static str,
    /// What it is for.
    pub summary: &'static str,
    /// What carries it out.
    pub run: Run,
    /// What its second word may be.
    pub subcommands: &'static [Command],
}

/// Which words of a call are keys: from `first` on, every `step`-th up to `last`, which counts from the end where it is negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The place of the first one; 0: there is none.
    pub first: i32,
    /// The place of the last one.
    pub last: i32,
    /// How far they are apart.
    pub step: i32,
}

impl Keys {
    /// Their places among so many words.
    pub fn places(self, words: usize) -> impl Iterator<Item = usize> {
        let last = if self.last < 0 { words as i32 + self.last } else { self.last.min(words as i32 - 1) };
        let last = if self.first == 0 { -1 } else { last };
        (self.first.max(1)..=last).step_by(self.step.max(1) as usize).map(|place| place as usize)
    }
}

/// What a command does and how, in Redis' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// Changes entries.
    Write,
    /// Looks at entries.
    Readonly,
    /// Takes a time that does not grow with what is stored.
    Fast,
    /// Is for operators.
    Admin,
    /// Is about messages that are pushed.
    Pubsub,
    /// Answers before one is let in.
    NoAuth,
    /// Ends, or begins, what queues: it is carried out at once within a transaction.
    Immediate,
}

impl Flag {
    /// In Redis' word; `None` for what Redis has no word for.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Flag::Write => "write",
            Flag::Readonly => "readonly",
            Flag::Fast => "fast",
            Flag::Admin => "admin",
            Flag::Pubsub => "pubsub",
            Flag::NoAuth => "no_auth",
            Flag::Immediate => return None,
        })
    }
}

/// What a command is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The connection itself.
    Connection,
    /// Values.
    String,
    /// Keys, whatever they hold.
    Generic,
    /// The server.
    Server,
    /// Messages.
    Pubsub,
    /// Several commands as one.
    Transactions,
    /// What only larder has: freshness, tags, events.
    Larder,
}

impl Group {
    /// In Redis' word, for documentation.
    pub fn name(self) -> &'static str {
        match self {
            Group::Connection => "connection",
            Group::String => "string",
            Group::Generic => "generic",
            Group::Server => "server",
            Group::Pubsub => "pubsub",
            Group::Transactions => "transactions",
            Group::Larder => "module",
        }
    }

    /// In Redis' word, for access control.
    pub fn category(self) -> &'static str {
        match self {
            Group::Connection => "@connection",
            Group::String => "@string",
            Group::Generic => "@keyspace",
            Group::Server => "@dangerous",
            Group::Pubsub => "@pubsub",
            Group::Transactions => "@transaction",
            Group::Larder => "@larder",
        }
    }
}

impl Command {
    /// Whether it has this flag.
    pub fn is(&self, flag: Flag) -> bool {
        self.flags.contains(&flag)
    }

    /// Whether a call may have so many words.
    pub fn takes(&self, words: usize) -> bool {
        let words = words as i32;
        if self.arity < 0 { words >= -self.arity } else { words == self.arity }
    }

    /// The categories of access control it is in.
    pub fn categories(&self) -> Vec<&'static str> {
        let mut all = vec![self.group.category()];
        all.extend(self.is(Flag::Write).then_some("@write"));
        all.extend(self.is(Flag::Readonly).then_some("@read"));
        all.extend(self.is(Flag::Admin).then_some("@admin"));
        all.push(if self.is(Flag::Fast) { "@fast" } else { "@slow" });
        all
    }
}

/// Finds a command by its name, however it is written, and its place in [`COMMANDS`], by which it is counted. A subcommand counts as the
/// command that it belongs to.
#[inline]
pub fn find(name: &[u8]) -> Option<(usize, &'static Command)> {
    let mut room = [0u8; NAME_MAX];
    let small = room.get_mut(..name.len())?;
    small.copy_from_slice(name);
    small.make_ascii_lowercase();
    BY_NAME.get(&*small).copied()
}

/// Finds a subcommand by the second word.
pub fn find_sub(command: &'static Command, word: &[u8]) -> Option<&'static Command> {
    let same = |sub: &&Command| sub.name.split_once('|').is_some_and(|(_, name)| name.as_bytes().eq_ignore_ascii_case(word));
    command.subcommands.iter().find(same)
}

const NAME_MAX: usize = 24;

type Found = (usize, &'static Command);

static BY_NAME: LazyLock<HashMap<&'static [u8], Found, foldhash::fast::RandomState>> =
    LazyLock::new(|| COMMANDS.iter().enumerate().map(|(place, command)| (command.name.as_bytes(), (place, command))).collect());

/// What carries a command out: one for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is named for its command, which has a row below")]
pub enum Run {
    // Connection.
    AclList,
    AclWhoami,
    Auth,
    ClientCaching,
    ClientGetname,
    ClientGetredir,
    ClientId,
    ClientInfo,
    ClientKill,
    ClientList,
    ClientNoEvict,
    ClientNoTouch,
    ClientReply,
    ClientSetinfo,
    ClientSetname,
    ClientTracking,
    ClientTrackinginfo,
    Echo,
    Hello,
    Ping,
    Quit,
    Reset,
    Select,
    // Strings.
    Append,
    Decr,
    Decrby,
    Get,
    Getdel,
    Getex,
    Getrange,
    Getset,
    Incr,
    Incrby,
    Incrbyfloat,
    Mget,
    Mset,
    Psetex,
    Set,
    Setex,
    Setnx,
    Strlen,
    // Keys.
    Del,
    Exists,
    Expire,
    Expireat,
    Expiretime,
    Keys,
    ObjectEncoding,
    ObjectFreq,
    ObjectIdletime,
    Persist,
    Pexpire,
    Pexpireat,
    Pexpiretime,
    Pttl,
    Randomkey,
    Scan,
    Touch,
    Ttl,
    Type,
    // Server.
    Command,
    CommandCount,
    CommandDocs,
    CommandGetkeys,
    CommandInfo,
    CommandList,
    ConfigGet,
    ConfigSet,
    Dbsize,
    Flushall,
    Info,
    MemoryUsage,
    Time,
    // Messages.
    Psubscribe,
    Publish,
    PubsubChannels,
    PubsubNumpat,
    PubsubNumsub,
    Punsubscribe,
    Subscribe,
    Unsubscribe,
    // Transactions.
    Discard,
    Exec,
    Multi,
    Unwatch,
    Watch,
    // Larder's own.
    LarderEmit,
    LarderExplain,
    LarderFill,
    LarderGet,
    LarderInvalidate,
    LarderSet,
    // What has only subcommands.
    Container,
}

const NONE: Keys = Keys { first: 0, last: 0, step: 0 };
const ONE: Keys = Keys { first: 1, last: 1, step: 1 };
const ALL: Keys = Keys { first: 1, last: -1, step: 1 };
const PAIRS: Keys = Keys { first: 1, last: -1, step: 2 };
const SECOND: Keys = Keys { first: 2, last: 2, step: 1 };

/// How a row begins: what it is called, how many words, what it does, and to what.
type Head = (&'static str, i32, &'static [Flag], Keys);

const fn row(head: Head, group: Group, since: &'static str, run: Run, summary: &'static str) -> Command {
    let (name, arity, flags, keys) = head;
    Command { name, arity, flags, keys, group, since, summary, run, subcommands: &[] }
}

const fn container(name: &'static str, group: Group, since: &'static str, summary: &'static str, subs: &'static [Command]) -> Command {
    Command { name, arity: -2, flags: &[], keys: NONE, group, since, summary, run: Run::Container, subcommands: subs }
}

const fn connection(name: &'static str, arity: i32, since: &'static str, run: Run, summary: &'static str) -> Command {
    row((name, arity, &[Fast], NONE), Group::Connection, since, run, summary)
}

const fn read(name: &'static str, arity: i32, keys: Keys, since: &'static str, run: Run, summary: &'static str) -> Command {
    row((name, arity, &[Readonly, Fast], keys), Group::String, since, run, summary)
}

const fn write(name: &'static str, arity: i32, keys: Keys, since: &'static str, run: Run, summary: &'static str) -> Command {
    row((name, arity, &[Write, Fast], keys), Group::String, since, run, summary)
}

const fn look(name: &'static str, arity: i32, keys: Keys, since: &'static str, run: Run, summary: &'static str) -> Command {
    row((name, arity, &[Readonly, Fast], keys), Group::Generic, since, run, summary)
}

const fn change(name: &'static str, arity: i32, keys: Keys, since: &'static str, run: Run, summary: &'static str) -> Command {
    row((name, arity, &[Write, Fast], keys), Group::Generic, since, run, summary)
}

const fn server(name: &'static str, arity: i32, since: &'static str, run: Run, summary: &'static str) -> Command {
    row((name, arity, &[], NONE), Group::Server, since, run, summary)
}

const fn message(name: &'static str, arity: i32, since: &'static str, run: Run, summary: &'static str) -> Command {
    row((name, arity, &[Flag::Pubsub], NONE), Group::Pubsub, since, run, summary)
}

const fn queueing(name: &'static str, arity: i32, keys: Keys, since: &'static str, run: Run, summary: &'static str) -> Command {
    row((name, arity, &[Fast, Immediate], keys), Group::Transactions, since, run, summary)
}

const fn own(name: &'static str, arity: i32, flags: &'static [Flag], keys: Keys, run: Run, summary: &'static str) -> Command {
    row((name, arity, flags, keys), Group::Larder, "larder 0.1.0", run, summary)
}

/// The commands, by group.
#[rustfmt::skip]
pub static COMMANDS: &[Command] = &[
    container("acl", Group::Connection, "6.0.0", "Tells who you are, and who may do what.", ACL),
    row(("auth", -2, &[Fast, NoAuth], NONE), Group::Connection, "1.0.0", Run::Auth, "Tells who you are."),
    container("client", Group::Connection, "2.4.0", "Tells of and governs connections.", CLIENT),
    connection("echo", 2, "1.0.0", Run::Echo, "Returns what it is given."),
    row(("hello", -1, &[Fast, NoAuth], NONE), Group::Connection, "6.0.0", Run::Hello, "Chooses the version of the protocol, and tells of the server."),
    connection("ping", -1, "1.0.0", Run::Ping, "Answers, so that you know that it does."),
    row(("quit", -1, &[Fast, NoAuth, Immediate], NONE), Group::Connection, "1.0.0", Run::Quit, "Closes the connection."),
    row(("reset", 1, &[Fast, NoAuth, Immediate], NONE), Group::Connection, "6.2.0", Run::Reset, "Makes the connection as new."),
    connection("select", 2, "1.0.0", Run::Select, "Chooses the database, of which there is one: 0."),

    write("append", 3, ONE, "2.0.0", Run::Append, "Appends to a value, which is made if need be."),
    write("decr", 2, ONE, "1.0.0", Run::Decr, "Takes one from a whole number; what is not there is 0."),
    write("decrby", 3, ONE, "1.0.0", Run::Decrby, "Takes from a whole number; what is not there is 0."),
    read("get", 2, ONE, "1.0.0", Run::Get, "Returns a value. A miss leaves a lease: a SET that answers it is dropped if what it depends on was invalidated in between."),
    write("getdel", 2, ONE, "6.2.0", Run::Getdel, "Returns a value and removes it."),
    write("getex", -2, ONE, "6.2.0", Run::Getex, "Returns a value and sets when it expires."),
    read("getrange", 4, ONE, "2.4.0", Run::Getrange, "Returns a part of a value."),
    write("getset", 3, ONE, "1.0.0", Run::Getset, "Sets a value and returns the one before."),
    write("incr", 2, ONE, "1.0.0", Run::Incr, "Adds one to a whole number; what is not there is 0."),
    write("incrby", 3, ONE, "1.0.0", Run::Incrby, "Adds to a whole number; what is not there is 0."),
    write("incrbyfloat", 3, ONE, "2.6.0", Run::Incrbyfloat, "Adds to a number; what is not there is 0."),
    read("mget", -2, ALL, "1.0.0", Run::Mget, "Returns many values."),
    write("mset", -3, PAIRS, "1.0.1", Run::Mset, "Sets many values."),
    write("psetex", 4, ONE, "2.6.0", Run::Psetex, "Sets a value and its life in milliseconds."),
    write("set", -3, ONE, "1.0.0", Run::Set, "Sets a value."),
    write("setex", 4, ONE, "2.0.0", Run::Setex, "Sets a value and its life in seconds."),
    write("setnx", 3, ONE, "1.0.0", Run::Setnx, "Sets a value where there is none."),
    read("strlen", 2, ONE, "2.2.0", Run::Strlen, "Returns the length of a value."),

    change("del", -2, ALL, "1.0.0", Run::Del, "Removes values, and says how many there were."),
    look("exists", -2, ALL, "1.0.0", Run::Exists, "Says how many of the keys have a value."),
    change("expire", -3, ONE, "1.0.0", Run::Expire, "Has a value expire in so many seconds."),
    change("expireat", -3, ONE, "1.2.0", Run::Expireat, "Has a value expire at a time, in seconds since 1970."),
    look("expiretime", 2, ONE, "7.0.0", Run::Expiretime, "Returns when a value expires, in seconds since 1970."),
    row(("keys", 2, &[Readonly], NONE), Group::Generic, "1.0.0", Run::Keys, "Returns all keys that match a pattern. SCAN does it without taking so long."),
    container("object", Group::Generic, "2.2.3", "Tells of values.", OBJECT),
    change("persist", 2, ONE, "2.2.0", Run::Persist, "Has a value never expire."),
    change("pexpire", -3, ONE, "2.6.0", Run::Pexpire, "Has a value expire in so many milliseconds."),
    change("pexpireat", -3, ONE, "2.6.0", Run::Pexpireat, "Has a value expire at a time, in milliseconds since 1970."),
    look("pexpiretime", 2, ONE, "7.0.0", Run::Pexpiretime, "Returns when a value expires, in milliseconds since 1970."),
    look("pttl", 2, ONE, "2.6.0", Run::Pttl, "Returns how long a value still lives, in milliseconds."),
    look("randomkey", 1, NONE, "1.0.0", Run::Randomkey, "Returns some key."),
    row(("scan", -2, &[Readonly], NONE), Group::Generic, "2.8.0", Run::Scan, "Goes through the keys, some at a time."),
    look("touch", -2, ALL, "3.2.1", Run::Touch, "Says how many of the keys have a value, and counts as reading them."),
    look("ttl", 2, ONE, "1.0.0", Run::Ttl, "Returns how long a value still lives, in seconds."),
    look("type", 2, ONE, "1.0.0", Run::Type, "Returns string, or none."),
    change("unlink", -2, ALL, "4.0.0", Run::Del, "Removes values, and says how many there were."),

    Command { subcommands: COMMAND, ..row(("command", -1, &[], NONE), Group::Server, "2.8.13", Run::Command, "Tells of all commands.") },
    container("config", Group::Server, "2.0.0", "Reads and sets what can be set.", CONFIG),
    row(("dbsize", 1, &[Readonly, Fast], NONE), Group::Server, "1.0.0", Run::Dbsize, "Returns about how many keys there are."),
    row(("flushall", -1, &[Write], NONE), Group::Server, "1.0.0", Run::Flushall, "Invalidates everything."),
    row(("flushdb", -1, &[Write], NONE), Group::Server, "1.0.0", Run::Flushall, "Invalidates everything."),
    server("info", -1, "1.0.0", Run::Info, "Tells of the server."),
    container("memory", Group::Server, "4.0.0", "Tells of memory.", MEMORY),
    row(("time", 1, &[Fast], NONE), Group::Server, "2.6.0", Run::Time, "Returns the time by which lives are counted."),

    message("psubscribe", -2, "2.0.0", Run::Psubscribe, "Listens to the channels that match patterns."),
    message("publish", 3, "2.0.0", Run::Publish, "Sends a message to those who listen to a channel on this server."),
    container("pubsub", Group::Pubsub, "2.8.0", "Tells of channels.", PUBSUB),
    message("punsubscribe", -1, "2.0.0", Run::Punsubscribe, "Listens no more to patterns."),
    message("subscribe", -2, "2.0.0", Run::Subscribe, "Listens to channels: __keyspace@0__:KEY and __keyevent@0__:EVENT, with expired, evicted and invalidated among the events, and what is published."),
    message("unsubscribe", -1, "2.0.0", Run::Unsubscribe, "Listens no more to channels."),

    queueing("discard", 1, NONE, "2.0.0", Run::Discard, "Forgets what is queued."),
    queueing("exec", 1, NONE, "1.2.0", Run::Exec, "Carries out what is queued."),
    queueing("multi", 1, NONE, "1.2.0", Run::Multi, "Queues what follows, up to EXEC."),
    row(("unwatch", 1, &[Fast], NONE), Group::Transactions, "2.2.0", Run::Unwatch, "Forgets what is watched."),
    queueing("watch", -2, ALL, "2.2.0", Run::Watch, "Has the next EXEC do nothing if one of the keys changes before it."),

    own("larder.emit", 3, &[Write], NONE, Run::LarderEmit, "Tells of an event, TYPE and its data as JSON, and invalidates what the rules say."),
    own("larder.explain", 2, &[Readonly], ONE, Run::LarderExplain, "Tells why an entry is served or not: which name, at which position."),
    own("larder.fill", -4, &[Write], ONE, Run::LarderFill, "KEY TOKEN VALUE [EX s|PX ms] [TAG t ...]: stores what was read from the source after LARDER.GET gave the token with its miss, unless what it depends on was invalidated since."),
    own("larder.get", -2, &[Readonly], ONE, Run::LarderGet, "KEY [AT position]: a value, how fresh it is, how old, and from which tier; with a miss, the token for LARDER.FILL."),
    own("larder.invalidate", -2, &[Write], NONE, Run::LarderInvalidate, "KEY k | TAG t | PATTERN p | NAMESPACE n | ALL, as many as you like: invalidates all of them at one position, which it returns."),
    own("larder.set", -3, &[Write], ONE, Run::LarderSet, "KEY VALUE [EX s|PX ms] [TAG t ...]: sets a value with its tags, and returns its position."),
];

#[rustfmt::skip]
static ACL: &[Command] = &[
    row(("acl|list", 2, &[Admin], NONE), Group::Server, "6.0.0", Run::AclList, "Tells who may do what."),
    connection("acl|whoami", 2, "6.0.0", Run::AclWhoami, "Returns the name of who the connection is for."),
];

#[rustfmt::skip]
static CLIENT: &[Command] = &[
    connection("client|caching", 3, "6.0.0", Run::ClientCaching, "Has the next reads tracked, or not."),
    connection("client|getname", 2, "2.6.9", Run::ClientGetname, "Returns the name of the connection."),
    connection("client|getredir", 2, "6.0.0", Run::ClientGetredir, "Returns where invalidations are sent to."),
    connection("client|id", 2, "5.0.0", Run::ClientId, "Returns the number of the connection."),
    connection("client|info", 2, "6.2.0", Run::ClientInfo, "Tells of the connection."),
    row(("client|kill", -3, &[Admin], NONE), Group::Connection, "2.4.0", Run::ClientKill, "Closes connections."),
    row(("client|list", -2, &[Admin], NONE), Group::Connection, "2.4.0", Run::ClientList, "Tells of all connections."),
    connection("client|no-evict", 3, "7.0.0", Run::ClientNoEvict, "Is taken, and changes nothing: connections are not closed for want of memory."),
    connection("client|no-touch", 3, "7.2.0", Run::ClientNoTouch, "Has reads of this connection not count as use."),
    connection("client|reply", 3, "3.2.0", Run::ClientReply, "Has the server answer, or not."),
    connection("client|setinfo", 4, "7.2.0", Run::ClientSetinfo, "Tells which library it is."),
    connection("client|setname", 3, "2.6.9", Run::ClientSetname, "Names the connection."),
    connection("client|tracking", -3, "6.0.0", Run::ClientTracking, "Has the server tell of what changes that was read."),
    connection("client|trackinginfo", 2, "6.2.0", Run::ClientTrackinginfo, "Tells how it is tracked."),
];

#[rustfmt::skip]
static OBJECT: &[Command] = &[
    look("object|encoding", 3, SECOND, "2.2.3", Run::ObjectEncoding, "Returns int, embstr or raw."),
    look("object|freq", 3, SECOND, "4.0.0", Run::ObjectFreq, "Returns about how often it was read in the last ten to twenty minutes, as a logarithm of 0 to 255."),
    look("object|idletime", 3, SECOND, "2.2.3", Run::ObjectIdletime, "Returns for how many seconds it was not read."),
];

#[rustfmt::skip]
static COMMAND: &[Command] = &[
    server("command|count", 2, "2.8.13", Run::CommandCount, "Returns how many commands there are."),
    server("command|docs", -2, "7.0.0", Run::CommandDocs, "Tells what commands are for."),
    server("command|getkeys", -3, "2.8.13", Run::CommandGetkeys, "Returns the keys of a call."),
    server("command|info", -2, "2.8.13", Run::CommandInfo, "Tells of commands."),
    server("command|list", -2, "7.0.0", Run::CommandList, "Returns the names of all commands."),
];

#[rustfmt::skip]
static CONFIG: &[Command] = &[
    row(("config|get", -3, &[Admin], NONE), Group::Server, "2.0.0", Run::ConfigGet, "Reads settings that match patterns."),
    row(("config|set", -4, &[Admin], NONE), Group::Server, "2.0.0", Run::ConfigSet, "Sets what can be set while it runs."),
];

#[rustfmt::skip]
static MEMORY: &[Command] =
    &[row(("memory|usage", -3, &[Readonly], SECOND), Group::Server, "4.0.0", Run::MemoryUsage, "Returns the bytes that a key and its value take.")];

#[rustfmt::skip]
static PUBSUB: &[Command] = &[
    message("pubsub|channels", -2, "2.8.0", Run::PubsubChannels, "Returns the channels that somebody listens to."),
    message("pubsub|numpat", 2, "2.8.0", Run::PubsubNumpat, "Returns how many patterns somebody listens to."),
    message("pubsub|numsub", -2, "2.8.0", Run::PubsubNumsub, "Returns how many listen to channels."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_found_however_it_is_written() {
        assert_eq!(find(b"GeT").unwrap().1.run, Run::Get);
        assert_eq!(find_sub(find(b"client").unwrap().1, b"No-Evict").unwrap().run, Run::ClientNoEvict);
        assert!(find(b"hset").is_none() && find(&[b'x'; 100]).is_none() && find(b"").is_none());
    }

    #[test]
    fn names_are_small_and_there_once() {
        let mut names: Vec<&str> = COMMANDS.iter().map(|command| command.name).collect();
        assert!(names.iter().all(|name| name.len() <= NAME_MAX && *name == name.to_lowercase()));
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
        assert!(COMMANDS.iter().enumerate().all(|(place, command)| find(command.name.as_bytes()).is_some_and(|found| found.0 == place)));
        let subs = COMMANDS.iter().flat_map(|command| command.subcommands.iter().map(move |sub| (command, sub)));
        assert!(subs.clone().all(|(command, sub)| sub.name.starts_with(&format!("{}|", command.name))));
        assert!(subs.count() > 20);
    }

    #[test]
    fn keys_are_where_the_table_says() {
        let places = |name: &str, words| find(name.as_bytes()).unwrap().1.keys.places(words).collect::<Vec<_>>();
        assert_eq!(places("mset", 5), [1, 3]);
        assert_eq!(places("del", 4), [1, 2, 3]);
        assert_eq!(places("set", 5), [1]);
        assert!(places("ping", 1).is_empty() && places("randomkey", 1).is_empty());
    }

    #[test]
    fn words_are_counted() {
        let takes = |name: &str, words| find(name.as_bytes()).unwrap().1.takes(words);
        assert!(takes("get", 2) && !takes("get", 3) && takes("del", 9) && !takes("del", 1));
    }
}
