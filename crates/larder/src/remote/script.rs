//! The scripts that run in Redis, and how they are called: by their hash, and in full where a server does not know it (it
//! was restarted, or its scripts were flushed).

use std::sync::LazyLock;

use ::redis::aio::ConnectionLike;
use ::redis::cluster_async::ClusterConnection;
use ::redis::{Cmd, ErrorKind, RedisError, RedisResult, Script, ServerErrorKind, Value};

/// What appends, with what remembers events in front; and what else looks whether the log is there.
const APPEND_TEXT: &str = concat!(include_str!("whole.lua"), include_str!("marks.lua"), include_str!("append.lua"));
const ENSURE_TEXT: &str = concat!(include_str!("whole.lua"), include_str!("ensure.lua"));
const BEAT_TEXT: &str = concat!(include_str!("whole.lua"), include_str!("beat.lua"));

/// What follows a stream of events, with what both have in front.
const FETCH_TEXT: &str = concat!(include_str!("stream.lua"), include_str!("fetch.lua"));
const RESUME_TEXT: &str = concat!(include_str!("stream.lua"), include_str!("resume.lua"));

/// The version of the layout of the log's keys; another one's is refused, and nothing of it is touched. The first had a table
/// in the place of checkpoints.
pub(crate) const LAYOUT: &str = "2";

pub(crate) static APPEND: LazyLock<Script> = LazyLock::new(|| Script::new(APPEND_TEXT));
pub(crate) static CHECKPOINT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("checkpoint.lua")));
pub(crate) static ENSURE: LazyLock<Script> = LazyLock::new(|| Script::new(ENSURE_TEXT));
pub(crate) static BEAT: LazyLock<Script> = LazyLock::new(|| Script::new(BEAT_TEXT));
pub(crate) static STORE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("store.lua")));
pub(crate) static HOLD: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("hold.lua")));
pub(crate) static DISCARD: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("discard.lua")));
pub(crate) static SHIP: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("ship.lua")));
pub(crate) static DUTY: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("duty.lua")));
pub(crate) static FETCH: LazyLock<Script> = LazyLock::new(|| Script::new(FETCH_TEXT));
pub(crate) static RESUME: LazyLock<Script> = LazyLock::new(|| Script::new(RESUME_TEXT));

/// The texts, in the order of the statics: `Script` does not give its own back.
const TEXTS: [&str; 11] = [
    APPEND_TEXT,
    include_str!("checkpoint.lua"),
    ENSURE_TEXT,
    BEAT_TEXT,
    include_str!("store.lua"),
    include_str!("hold.lua"),
    include_str!("discard.lua"),
    include_str!("ship.lua"),
    include_str!("duty.lua"),
    FETCH_TEXT,
    RESUME_TEXT,
];

/// A call by hash. Keys and arguments are added by the caller.
pub(crate) fn call(script: &Script, keys: usize) -> Cmd {
    sized_call(script, keys, (0, 0))
}

/// The same with room for so many keys and arguments of so many bytes, where they are many.
pub(crate) fn sized_call(script: &Script, keys: usize, (arguments, bytes): (usize, usize)) -> Cmd {
    let mut command = Cmd::with_capacity(arguments + 3, bytes + 64);
    command.arg("EVALSHA").arg(script.get_hash()).arg(keys);
    command
}

/// Runs a call, loading the scripts first where the server does not know them.
pub(crate) async fn run(connection: &mut impl ConnectionLike, call: &Cmd) -> RedisResult<Value> {
    match send(connection, call).await {
        Err(error) if is_unknown(&error) => {
            load(connection).await?;
            send(connection, call).await
        }
        outcome => outcome,
    }
}

/// Runs a call wherever its key is. A node that does not know the script is told in the call itself.
pub(crate) async fn run_in_cluster(connection: &mut ClusterConnection, call: &Cmd) -> RedisResult<Value> {
    match send(connection, call).await {
        Err(error) if is_unknown(&error) => send(connection, &in_full(call)).await,
        outcome => outcome,
    }
}

/// One command. What the server refused is an error here, whatever the kind of connection makes of it.
pub(crate) async fn send(connection: &mut impl ConnectionLike, command: &Cmd) -> RedisResult<Value> {
    connection.req_packed_command(command).await.and_then(Value::extract_error)
}

pub(crate) fn is_unknown(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// Makes all scripts known to a server.
pub(crate) async fn load(connection: &mut impl ConnectionLike) -> RedisResult<()> {
    for text in TEXTS {
        send(connection, ::redis::cmd("SCRIPT").arg("LOAD").arg(text)).await?;
    }
    Ok(())
}

/// A call by hash as one that brings the script along.
pub(crate) fn in_full(call: &Cmd) -> Cmd {
    let mut arguments = call.args_iter().map(|argument| match argument {
        ::redis::Arg::Simple(bytes) => bytes.to_vec(),
        _ => Vec::new(),
    });
    let hash = arguments.by_ref().nth(1).unwrap_or_default();
    let text = TEXTS.iter().find(|text| Script::new(text).get_hash().as_bytes() == hash).expect("only own scripts are called");
    let mut full = ::redis::cmd("EVAL");
    full.arg(*text);
    for argument in arguments {
        full.arg(argument);
    }
    full
}
