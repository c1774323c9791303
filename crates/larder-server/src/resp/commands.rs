//! Carrying commands out: found in the table, checked, queued in a transaction or run, answered.
//!
//! ```text
//!   name -> table -> subcommand -> number of words -> may it be run now? -> in a transaction: queued
//!                                                                        -> run
//! ```

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use larder::ErrorKind;

use super::Resp;
use super::frame::{Args, OwnedArgs};
use super::reply::Replies;
use super::session::{Answers, Session};
use super::table::{self, Command, Flag, Run};
use super::{access, audited, tracking, transactions};

mod about;
mod clients;
mod keys;
mod life;
mod numbers;
mod own;
mod scan;
mod server;
mod strings;

pub use keys::peek;
pub use own::{names, tags};
pub use scan::Scans;

/// A command that is being carried out.
pub struct Call<'a> {
    /// What all connections share.
    pub resp: &'a Arc<Resp>,
    /// What this one has told.
    pub session: &'a mut Session,
    /// The words, the command's name included.
    pub args: Args<'a>,
    /// Where the reply goes.
    pub out: &'a mut Replies,
    /// Whether a transaction holds the keys already.
    pub holds: bool,
}

impl Call<'_> {
    /// A word as a whole number.
    pub fn integer(&self, at: usize) -> Result<i64, Refusal> {
        whole(self.args.at(at))
    }

    /// Whether a word is this option, however it is written.
    pub fn is(&self, at: usize, option: &str) -> bool {
        self.args.at(at).eq_ignore_ascii_case(option.as_bytes())
    }

    /// Which of two options a word is, and whether it is the first: one of them it has to be.
    pub fn one_of(&self, at: usize, [yes, no]: [&str; 2]) -> Result<bool, Refusal> {
        if self.is(at, yes) || self.is(at, no) { Ok(self.is(at, yes)) } else { Err(SYNTAX) }
    }

    /// Waits until nobody else on this server changes a key; at once, within a transaction.
    pub async fn hold<'a>(&self, key: &[u8]) -> Result<Option<tokio::sync::RwLockWriteGuard<'a, ()>>, Refusal>
    where
        Self: 'a,
    {
        let resp: &Arc<Resp> = self.resp;
        // The stripes live as long as the server does, which outlives the call.
        if self.holds { Ok(None) } else { Ok(Some(resp.stripes.hold(key).await?)) }
    }
}

/// Why a command was not carried out, as the client is told: a word in capitals and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub Cow<'static, [u8]>);

impl Refusal {
    /// In words that are always the same.
    pub const fn new(text: &'static str) -> Self {
        Refusal(Cow::Borrowed(text.as_bytes()))
    }

    /// Whether somebody was refused who may not.
    pub fn is_denial(&self) -> bool {
        ["NOAUTH", "NOPERM", "WRONGPASS"].iter().any(|word| self.0.starts_with(word.as_bytes()))
    }

    /// In words that depend.
    pub fn of(text: impl Into<Vec<u8>>) -> Self {
        Refusal(Cow::Owned(text.into()))
    }
}

impl From<larder::Error> for Refusal {
    fn from(error: larder::Error) -> Self {
        // A word of its own where a client may do something else about it than give up.
        let word = match error.kind() {
            ErrorKind::Unverified => "UNVERIFIED",
            ErrorKind::LogUnavailable | ErrorKind::Tier | ErrorKind::Closed | ErrorKind::Overloaded => "UNAVAILABLE",
            ErrorKind::NotReached => "NOTREACHED",
            // The word that clients of Redis know for what may be tried again later.
            ErrorKind::Maintenance => "TRYAGAIN",
            ErrorKind::Forbidden => "NOPERM",
            _ => "ERR",
        };
        Refusal::of(format!("{word} {error}"))
    }
}

/// Redis' own words.
pub const NOT_AN_INTEGER: Refusal = Refusal::new("ERR value is not an integer or out of range");
/// See [`NOT_AN_INTEGER`].
pub const SYNTAX: Refusal = Refusal::new("ERR syntax error");

/// A whole number, as Redis takes them.
pub fn whole(text: &[u8]) -> Result<i64, Refusal> {
    super::frame::integer(text).ok_or(NOT_AN_INTEGER)
}

/// What handlers return.
pub type Done = Result<(), Refusal>;

/// Carries out a request, and appends the reply.
pub async fn execute(resp: &Arc<Resp>, session: &mut Session, args: Args<'_>, out: &mut Replies) {
    let before = out.len();
    session.is_denial_recorded = false;
    if let Err(refusal) = admit(resp, session, args, out).await {
        audited::refused(resp, session, args.at(0), &refusal);
        out.back_to(before);
        out.error(&refusal.0);
    }
    session.answers = match session.answers {
        Answers::On => return,
        Answers::Off => {
            out.back_to(before);
            Answers::Off
        }
        Answers::SkipNext => {
            out.back_to(before);
            Answers::Skip
        }
        Answers::Skip => {
            out.back_to(before);
            Answers::On
        }
    };
}

async fn admit(resp: &Arc<Resp>, session: &mut Session, args: Args<'_>, out: &mut Replies) -> Done {
    let (place, command) = match look_up(args) {
        Ok(found) => found,
        Err(_) if is_http(args.at(0)) => {
            // A web page can have a browser send this to a server of the same machine, with commands in its body.
            tracing::warn!(client = session.client.id, addr = %session.client.addr, "HTTP where RESP is spoken: the connection is closed");
            session.ends = true;
            return Ok(());
        }
        Err(refusal) if args.at(0).eq_ignore_ascii_case(b"exec") => {
            transactions::end(session);
            let why = refusal.0.strip_prefix(b"ERR ").unwrap_or(&refusal.0);
            return Err(Refusal::of([b"EXECABORT Transaction discarded because of: ", why].concat()));
        }
        Err(refusal) => {
            if let Some(queue) = &mut session.queue {
                queue.is_spoilt = true;
            }
            return Err(refusal);
        }
    };
    session.client.command.store(place, Relaxed);
    resp.called(place);
    if let Err(refusal) = access::take(resp, session, command).and_then(|()| access::permit(resp, session, command, args)) {
        if let Some(queue) = &mut session.queue {
            queue.is_spoilt = true;
        }
        return Err(refusal);
    }
    if session.only_listens(out) && !(command.is(Flag::Pubsub) && command.run != Run::Publish) && !ALWAYS.contains(&command.run) {
        let name = command.name;
        return Err(Refusal::of(format!(
            "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
        )));
    }
    if let Some(queue) = &mut session.queue
        && !command.is(Flag::Immediate)
    {
        let call = OwnedArgs::of(args);
        queue.bytes += call.bytes();
        if queue.bytes > resp.limits.requests.request_bytes_max {
            queue.is_spoilt = true;
            return Err(Refusal::new("ERR the transaction is too large"));
        }
        queue.calls.push((command, call));
        session.client.queued.store(queue.calls.len() + 1, Relaxed);
        out.simple("QUEUED");
        return Ok(());
    }
    run_recorded(command, Call { resp, session, args, out, holds: false }).await
}

/// Runs a command, with what the audit log has to know of it.
pub async fn run_recorded(command: &'static Command, call: Call<'_>) -> Done {
    if call.resp.audit.is_none() {
        return run_told(command, call).await;
    }
    let slot = audited::begin(command, &call)?;
    let Call { resp, session, args, out, holds } = call;
    // One of a transaction has its own, whatever those before it had.
    (session.position, session.is_denial_recorded) = (None, false);
    let done = run_told(command, Call { resp, session, args, out, holds }).await;
    audited::end(slot, &mut Call { resp, session, args, out, holds }, &done);
    done
}

/// Runs a command, with what tracking has to know of it.
async fn run_told(command: &'static Command, call: Call<'_>) -> Done {
    if call.session.tracked.is_none() {
        return run(command, call).await;
    }
    let (resp, session, holds) = (call.resp, call.session, call.holds);
    tracking::begins(resp, session, command, call.args);
    let done = run(command, Call { resp, session, ..call }).await;
    tracking::has_ended(resp, session, command, holds);
    done
}

/// Whether a word begins a request of HTTP, or a line of one that every request has.
fn is_http(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"POST") || word.eq_ignore_ascii_case(b"Host:")
}

/// What may be run while listening in version 2.
const ALWAYS: [Run; 3] = [Run::Ping, Run::Quit, Run::Reset];

/// The command of a request, if it is one and has the right number of words, and the place of its family in the table.
fn look_up(args: Args<'_>) -> Result<(usize, &'static Command), Refusal> {
    let (place, mut command) = table::find(args.at(0)).ok_or_else(|| unknown(args))?;
    if !command.subcommands.is_empty() && args.len() > 1 {
        command = table::find_sub(command, args.at(1)).ok_or_else(|| {
            let word = &args.at(1)[..args.at(1).len().min(128)];
            let family = command.name.to_uppercase();
            Refusal::of([b"ERR unknown subcommand '", word, b"'. Try ", family.as_bytes(), b" HELP."].concat())
        })?;
    }
    if !command.takes(args.len()) {
        return Err(Refusal::of(format!("ERR wrong number of arguments for '{}' command", command.name)));
    }
    Ok((place, command))
}

/// In the words of Redis, with what was said of it.
fn unknown(args: Args<'_>) -> Refusal {
    let mut text = b"ERR unknown command '".to_vec();
    text.extend_from_slice(&args.at(0)[..args.at(0).len().min(128)]);
    text.extend_from_slice(b"', with args beginning with: ");
    let begins = text.len();
    for arg in args.skip(1).iter() {
        let room = 128usize.saturating_sub(text.len() - begins);
        if room == 0 {
            break;
        }
        text.push(b'\'');
        text.extend_from_slice(&arg[..arg.len().min(room)]);
        text.extend_from_slice(b"' ");
    }
    Refusal::of(text)
}

/// Runs a command that may be run.
pub async fn run(command: &'static Command, mut call: Call<'_>) -> Done {
    let call = &mut call;
    match command.run {
        // First, as they are nearly all there is.
        Run::Get => strings::get(call).await,
        Run::Set => strings::set(call).await,
        Run::Mget => strings::mget(call).await,

        Run::AclList => access::list(call),
        Run::AclWhoami => access::whoami(call),
        Run::Auth => clients::auth(call).await,
        Run::ClientCaching => clients::caching(call),
        Run::ClientGetname => clients::getname(call),
        Run::ClientGetredir => clients::getredir(call),
        Run::ClientId => clients::id(call),
        Run::ClientInfo => clients::info(call),
        Run::ClientKill => clients::kill(call),
        Run::ClientList => clients::list(call),
        Run::ClientNoEvict | Run::ClientNoTouch => clients::on_or_off(call, command.run),
        Run::ClientReply => clients::reply(call),
        Run::ClientSetinfo => clients::setinfo(call),
        Run::ClientSetname => clients::setname(call),
        Run::ClientTracking => tracking::switch(call),
        Run::ClientTrackinginfo => tracking::info(call),
        Run::Echo => clients::echo(call),
        Run::Hello => clients::hello(call).await,
        Run::Ping => clients::ping(call),
        Run::Quit => clients::quit(call),
        Run::Reset => clients::reset(call),
        Run::Select => clients::select(call),

        Run::Append => strings::append(call).await,
        Run::Decr => numbers::add(call, Some(-1)).await,
        Run::Incr => numbers::add(call, Some(1)).await,
        Run::Decrby => numbers::decrby(call).await,
        Run::Incrby => numbers::add(call, None).await,
        Run::Incrbyfloat => numbers::add_float(call).await,
        Run::Getdel => strings::getdel(call).await,
        Run::Getex => strings::getex(call).await,
        Run::Getrange => strings::getrange(call).await,
        Run::Getset => strings::getset(call).await,
        Run::Mset => strings::mset(call).await,
        Run::Setex => strings::setex(call, 1_000, "setex").await,
        Run::Psetex => strings::setex(call, 1, "psetex").await,
        Run::Setnx => strings::setnx(call).await,
        Run::Strlen => strings::strlen(call).await,

        Run::Del => keys::del(call).await,
        Run::Exists => keys::exists(call).await,
        Run::Touch => keys::touch(call).await,
        Run::Type => keys::kind(call).await,
        Run::Randomkey => keys::random(call).await,
        Run::Keys => scan::keys(call).await,
        Run::Scan => scan::scan(call).await,
        Run::ObjectEncoding => keys::encoding(call).await,
        Run::ObjectFreq => keys::freq(call).await,
        Run::ObjectIdletime => keys::idle(call).await,
        Run::MemoryUsage => keys::usage(call).await,

        Run::Expire => life::expire(call, life::IN_SECONDS).await,
        Run::Pexpire => life::expire(call, life::IN_MILLISECONDS).await,
        Run::Expireat => life::expire(call, life::AT_SECONDS).await,
        Run::Pexpireat => life::expire(call, life::AT_MILLISECONDS).await,
        Run::Ttl => life::left(call, life::IN_SECONDS).await,
        Run::Pttl => life::left(call, life::IN_MILLISECONDS).await,
        Run::Expiretime => life::left(call, life::AT_SECONDS).await,
        Run::Pexpiretime => life::left(call, life::AT_MILLISECONDS).await,
        Run::Persist => life::persist(call).await,

        Run::Command => about::command(call),
        Run::CommandCount => about::count(call),
        Run::CommandDocs => about::docs(call),
        Run::CommandGetkeys => about::getkeys(call),
        Run::CommandInfo => about::info(call),
        Run::CommandList => about::list(call),
        Run::ConfigGet => server::config_get(call),
        Run::ConfigSet => server::config_set(call),
        Run::Dbsize => server::dbsize(call).await,
        Run::Flushall => server::flush(call).await,
        Run::Info => server::info(call),
        Run::Time => server::time(call),

        Run::Psubscribe => super::channels::subscribe(call, super::channels::Kind::Pattern),
        Run::Subscribe => super::channels::subscribe(call, super::channels::Kind::Channel),
        Run::Punsubscribe => super::channels::unsubscribe(call, super::channels::Kind::Pattern),
        Run::Unsubscribe => super::channels::unsubscribe(call, super::channels::Kind::Channel),
        Run::Publish => super::channels::publish(call),
        Run::PubsubChannels => super::channels::list(call),
        Run::PubsubNumpat => super::channels::count_patterns(call),
        Run::PubsubNumsub => super::channels::count_listeners(call),

        Run::Discard => transactions::discard(call),
        Run::Exec => transactions::exec(call).await,
        Run::Multi => transactions::multi(call),
        Run::Unwatch => transactions::unwatch(call),
        Run::Watch => transactions::watch(call).await,

        Run::LarderEmit => own::emit(call).await,
        Run::LarderExplain => own::explain(call).await,
        Run::LarderFill => own::fill(call).await,
        Run::LarderGet => own::get(call).await,
        Run::LarderInvalidate => own::invalidate(call).await,
        Run::LarderSet => own::set(call).await,
        Run::Container => Err(Refusal::of(format!("ERR wrong number of arguments for '{}' command", command.name))),
    }
}

/// The keys that a call names.
pub fn keys_of<'a>(command: &Command, args: Args<'a>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    command.keys.places(args.len()).map(move |place| args.at(place))
}

/// A connection ends, or begins anew: what the server kept for it is let go of.
pub fn forget(resp: &Resp, session: &mut Session) {
    session.queue = None;
    session.watched.clear();
    session.client.queued.store(0, Relaxed);
    super::channels::forget(resp, session);
    tracking::forget(resp, session);
}
