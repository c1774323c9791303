//! A connection over TLS that is read and written as a socket is: as much as goes now, and then it is waited for. `tokio-rustls` has
//! streams for futures; who serves clients of Redis asks when bytes are there, and takes no buffer until then.
//!
//! ```text
//!   try_read:   plaintext that is here already, else what the socket has -> rustls -> plaintext
//!   try_write:  what is still to be sent first; then plaintext -> rustls -> the socket, as far as it goes
//!   try_flush:  what rustls took and the socket did not
//! ```
//!
//! The lock is held for one step and never over a wait. One task reads and writes; others only end the connection, which they do at
//! the socket.

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::{ServerConfig, ServerConnection};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{PeerNames, Tls, greet, late};

/// See the head of this file.
#[derive(Debug)]
pub struct Socket {
    tcp: TcpStream,
    tls: Mutex<ServerConnection>,
}

/// What a handshake waits for.
enum Waits {
    /// For nothing more.
    Over,
    Read,
    Write,
}

/// The socket as rustls wants it.
struct Raw<'a>(&'a TcpStream);

impl Read for Raw<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(into)
    }
}

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket {
    /// A connection that nothing was said over yet.
    ///
    /// # Errors
    /// When rustls finds the configuration wanting.
    pub fn new(tcp: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let tls = ServerConnection::new(config).map_err(io::Error::other)?;
        Ok(Socket { tcp, tls: Mutex::new(tls) })
    }

    /// The socket itself.
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Where it came to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Makes the handshake. Whoever speaks without TLS is told so in these words.
    ///
    /// # Errors
    /// As [`Tls::accept`].
    pub async fn shake_hands(&self, tls: &Tls, plainly: &[u8]) -> io::Result<PeerNames> {
        let shaking = async {
            greet(&self.tcp, plainly).await?;
            loop {
                match self.step()? {
                    Waits::Over => return Ok(PeerNames::of(self.tls.lock().peer_certificates())),
                    Waits::Read => self.tcp.readable().await?,
                    Waits::Write => self.tcp.writable().await?,
                }
            }
        };
        timeout(tls.handshake_timeout(), shaking).await.unwrap_or_else(|_| Err(late()))
    }

    fn step(&self) -> io::Result<Waits> {
        let mut tls = self.tls.lock();
        loop {
            if !flush(&mut tls, &self.tcp)? {
                return Ok(Waits::Write);
            }
            if !tls.is_handshaking() {
                return Ok(Waits::Over);
            }
            match take_in(&mut tls, &self.tcp) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Waits::Read),
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until there is something to read, or the end of it.
    pub async fn readable(&self) -> io::Result<()> {
        let is_here = !matches!(self.tls.lock().reader().fill_buf(), Err(error) if error.kind() == ErrorKind::WouldBlock);
        if is_here { Ok(()) } else { self.tcp.readable().await }
    }

    /// Waits until something can be sent.
    pub async fn writable(&self) -> io::Result<()> {
        self.tcp.writable().await
    }

    /// Appends what is there, as far as there is room; 0 is the end. A connection that was cut ends as one that was closed: what is
    /// asked for over it says itself where it ends, so nobody gains by cutting it.
    pub fn try_read(&self, into: &mut Vec<u8>) -> io::Result<usize> {
        let mut tls = self.tls.lock();
        loop {
            let mut reader = tls.reader();
            match reader.fill_buf() {
                Ok(chunk) => {
                    let n = chunk.len().min(into.capacity() - into.len());
                    into.extend_from_slice(&chunk[..n]);
                    if n > 0 {
                        reader.consume(n);
                    }
                    return Ok(n);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                Err(error) => return Err(error),
            }
            let taken = take_in(&mut tls, &self.tcp);
            // Keys that change, and tickets, are answered; what does not go now goes with the next that does.
            flush(&mut tls, &self.tcp)?;
            taken?;
        }
    }

    /// Takes what can be sent, and begins to send it.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut tls = self.tls.lock();
        if !flush(&mut tls, &self.tcp)? {
            return Err(ErrorKind::WouldBlock.into());
        }
        let n = tls.writer().write(bytes)?;
        flush(&mut tls, &self.tcp)?;
        Ok(n)
    }

    /// Sends what was taken. Whether that is all.
    pub fn try_flush(&self) -> io::Result<bool> {
        flush(&mut self.tls.lock(), &self.tcp)
    }

    /// Says that it ends, as far as that can be said now.
    pub fn close(&self) {
        let mut tls = self.tls.lock();
        tls.send_close_notify();
        // Nobody waits for one that takes no more.
        let said = flush(&mut tls, &self.tcp);
        tracing::trace!(?said, "a connection over TLS ends");
    }
}

/// Reads from the socket once, and says how much. 0 is the end.
fn take_in(tls: &mut ServerConnection, tcp: &TcpStream) -> io::Result<usize> {
    let n = loop {
        match tls.read_tls(&mut Raw(tcp)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => break read?,
        }
    };
    if let Err(error) = tls.process_new_packets() {
        // The alert that says why; the error is what matters, whether it can be said or not.
        let said = flush(tls, tcp);
        tracing::trace!(?said, "a client is told why TLS is not spoken with it");
        return Err(io::Error::new(ErrorKind::InvalidData, error));
    }
    Ok(n)
}

/// Sends what is to be sent. Whether that was all.
fn flush(tls: &mut ServerConnection, tcp: &TcpStream) -> io::Result<bool> {
    while tls.wants_write() {
        match tls.write_tls(&mut Raw(tcp)) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
