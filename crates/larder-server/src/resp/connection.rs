//! A connection: what comes is carried out in order, and answered in as few writes as it came in reads.
//!
//! ```text
//!   readable -> read -> each whole request: carried out, its reply appended -> one write -> readable
//!                       replies grow beyond FLUSH_AT: written first, and if the client does not take them, waited for
//! ```
//!
//! So a client that sends without reading is not read from either: nothing grows but what the system's buffers hold. A connection that
//! waits for its client has no buffer: it takes one of its thread's when there is something to read, and keeps it only while half a
//! request is in it.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::task::consume_budget;

use super::Resp;
use super::access;
use super::clients::{Client, Stream};
use super::commands;
use super::frame::{Decoder, Step};
use super::reply::Replies;
use super::session::{Answers, Session};

/// Room for what a client sends at once: sixteen values of a kilobyte come in one read. Pages of it that nobody writes to are not there.
const READ_BYTES: usize = 64 << 10;

/// Replies are written when there are so many, though more requests are here.
const FLUSH_AT: usize = 64 << 10;

/// A buffer that became larger is not kept.
const KEPT_BYTES: usize = 256 << 10;

/// Buffers that a thread keeps for its connections.
const BUFFERS_MAX: usize = 16;

thread_local! {
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

fn take_buffer() -> Vec<u8> {
    BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(READ_BYTES))
}

fn give_back(mut buffer: Vec<u8>) {
    if (1..=KEPT_BYTES).contains(&buffer.capacity()) {
        buffer.clear();
        BUFFERS.with_borrow_mut(|buffers| {
            if buffers.len() < BUFFERS_MAX {
                buffers.push(buffer);
            }
        });
    }
}

/// A connection's session, which is let go of however the connection ends, by a panic as well.
struct Open {
    resp: Arc<Resp>,
    session: Session,
}

impl Drop for Open {
    fn drop(&mut self) {
        commands::forget(&self.resp, &mut self.session);
        self.resp.clients.closed(self.session.client.id);
    }
}

/// Serves a connection until it ends, and takes it off the list.
pub async fn serve(resp: Arc<Resp>, stream: Arc<Stream>, client: Arc<Client>) {
    let id = client.id;
    let mut open = Open { resp: resp.clone(), session: Session::new(client, resp.raw.putter()) };
    match stream.shake_hands(resp.tls.as_deref()).await {
        Ok(peer) => {
            open.session.peer = peer;
            access::by_certificate(&resp, &mut open.session);
        }
        Err(error) => return tracing::debug!(%error, client = id, "TLS could not be spoken with a client"),
    }
    let ended = converse(&resp, &stream, &mut open.session).await;
    stream.close();
    if let Err(error) = ended
        && !matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::NotConnected)
    {
        tracing::debug!(%error, client = id, "a connection has ended");
    }
}

async fn converse(resp: &Arc<Resp>, stream: &Stream, session: &mut Session) -> io::Result<()> {
    let mut decoder = Decoder::new(resp.limits.requests);
    let mut out = Replies::default();
    let mut buffer = Vec::new();
    let mut more = 1;
    let mut listened = false;
    loop {
        if listened && !session.listens() {
            // What was said before it stopped listening is not for whatever it listens to next.
            drop(session.client.mailbox.take());
        }
        listened = session.listens();
        if listened {
            tokio::select! {
                readable = stream.readable() => readable?,
                () = session.client.mailbox.come() => {
                    out.raw(&session.client.mailbox.take());
                    write(stream, &session.client, &mut out, resp).await?;
                    continue;
                }
            }
        } else {
            stream.readable().await?;
        }
        if buffer.capacity() == 0 {
            buffer = take_buffer();
            out.give(take_buffer());
        }
        // What is said to come is not believed: room is made as it comes, for as much again at most.
        if buffer.capacity() - buffer.len() < READ_BYTES {
            buffer.reserve(more.min(buffer.len()).max(READ_BYTES));
        }
        let room = buffer.capacity() - buffer.len();
        let is_drained = match stream.try_read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read < room,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if buffer.is_empty() {
                    give_back(std::mem::take(&mut buffer));
                    give_back(out.take());
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        if is_drained {
            stream.is_drained();
        }
        let mut done = 0;
        loop {
            if resp.door.is_guarded() {
                // Who has not said who they are has little to say, and others as much as their roles.
                decoder.limit(session.allowance.requests);
            }
            match decoder.decode(&buffer[done..]) {
                Ok(Step::Request(len)) => {
                    let args = decoder.args(&buffer[done..]);
                    if !args.is_empty() {
                        // Others of this thread have their turn, however long the pipeline.
                        consume_budget().await;
                        commands::execute(resp, session, args, &mut out).await;
                    }
                    done += len;
                    if session.ends {
                        return answer(stream, session, &mut out, resp).await;
                    }
                    if out.len() >= FLUSH_AT {
                        answer(stream, session, &mut out, resp).await?;
                    }
                }
                Ok(Step::More(least)) => {
                    more = least;
                    break;
                }
                Err(malformed) => {
                    if session.answers != Answers::Off {
                        out.error(format!("ERR {malformed}").as_bytes());
                    }
                    return answer(stream, session, &mut out, resp).await;
                }
            }
        }
        let now = resp.now_ms();
        if done > 0 {
            session.client.asked_at.store(now, Relaxed);
        }
        answer(stream, session, &mut out, resp).await?;
        if is_drained {
            // What follows was sent by somebody who could have read the replies.
            session.pipelined = 0;
        }
        if done == buffer.len() {
            session.client.half_since.store(0, Relaxed);
            if buffer.capacity() > KEPT_BYTES {
                decoder.slim();
            }
            give_back(std::mem::take(&mut buffer));
            give_back(out.take());
        } else {
            if done > 0 || session.client.half_since.load(Relaxed) == 0 {
                session.client.half_since.store(now.max(1), Relaxed);
            }
            buffer.drain(..done);
        }
    }
}

/// Writes all replies, once what they answer is recorded.
async fn answer(stream: &Stream, session: &mut Session, out: &mut Replies, resp: &Resp) -> io::Result<()> {
    if let Some(unwritten) = session.unwritten.take()
        && !unwritten.wait().await
    {
        tracing::warn!(client = session.client.id, "a command is answered whose record is not written yet");
    }
    write(stream, &session.client, out, resp).await
}

/// Writes all replies, waiting for the client to take them.
async fn write(stream: &Stream, client: &Client, out: &mut Replies, resp: &Resp) -> io::Result<()> {
    let mut at = 0;
    while at < out.len() {
        match stream.try_write(&out.bytes()[at..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => at += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                client.stuck_since.store(resp.now_ms().max(1), Relaxed);
                stream.writable().await?;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if at > 0 {
        while !stream.try_flush()? {
            client.stuck_since.store(resp.now_ms().max(1), Relaxed);
            stream.writable().await?;
        }
        client.stuck_since.store(0, Relaxed);
        out.sent();
    }
    Ok(())
}
