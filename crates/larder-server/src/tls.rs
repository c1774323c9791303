//! TLS for the doors of the server: what it is spoken with, renewed while it serves, and who showed a certificate.
//!
//! ```text
//!   files --pair.rs--> configurations of rustls <--renewal.rs: looked at now and then, and on SIGHUP
//!                        |
//!                        +-- HTTP: accept -> a stream of tokio-rustls    (here)
//!                        +-- RESP: socket.rs, which can be read and written without being awaited
//!                        |
//!                        +-- PeerNames: the names in a client's certificate, once it was verified
//! ```
//!
//! It knows nothing of what is said over a connection. A handshake has a time limit, and is made in the connection's own task, so that
//! a slow one delays nobody. Whoever speaks without TLS is told so in clear words.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::health::certificates::Certificate;
use pair::{Files, Loaded};

mod pair;
mod renewal;
mod socket;
pub(crate) mod x509;

pub use pair::{TlsError, certificates};
pub use renewal::{Renewal, renewing};
pub use socket::Socket;

/// What every handshake begins with.
const HANDSHAKE: u8 = 0x16;

/// Somebody who speaks without TLS is read from for so long, and for so many bytes, after they were told: closed at once, the connection
/// would be reset, and what they were told lost.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: usize = 64 << 10;

/// What TLS is spoken with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The certificate that is shown (PEM), with those that lead to its authority.
    pub certificate: PathBuf,
    /// Its key (PEM).
    pub key: PathBuf,
    /// Whether clients show certificates.
    pub clients: ClientCertificates,
    /// Whether TLS 1.2 is refused. Default: it is taken.
    pub only_1_3: bool,
    /// How long a handshake may take. Default 10 s.
    pub handshake_timeout: Duration,
    /// How often the files are looked at. Default 30 s.
    pub look_every: Duration,
}

/// Whether clients show certificates, and whose are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not asked for any.
    Off,
    /// They may. One that is shown has to be from this authority (PEM), or the connection ends.
    Optional(PathBuf),
    /// They have to.
    Required(PathBuf),
}

impl ClientCertificates {
    /// The file of the authority that their certificates come from.
    pub fn authority(&self) -> Option<&PathBuf> {
        match self {
            ClientCertificates::Off => None,
            ClientCertificates::Optional(authority) | ClientCertificates::Required(authority) => Some(authority),
        }
    }
}

/// A name in a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PeerName {
    /// Of a host, in small letters.
    Dns(String),
    /// As SPIFFE has it.
    Uri(String),
    /// An address of mail.
    Email(String),
}

impl PeerName {
    /// Reads one as configurations write it.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once(':').filter(|(_, name)| !name.is_empty())?;
        Some(match kind {
            "dns" => PeerName::Dns(name.to_ascii_lowercase()),
            "uri" => PeerName::Uri(name.to_owned()),
            "email" => PeerName::Email(name.to_owned()),
            _ => return None,
        })
    }
}

/// As configurations write it: `uri:spiffe://example.org/feed`.
impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerName::Dns(name) => write!(f, "dns:{name}"),
            PeerName::Uri(name) => write!(f, "uri:{name}"),
            PeerName::Email(name) => write!(f, "email:{name}"),
        }
    }
}

/// The names in the certificate that a client showed and that was verified; none where it showed none. Every request over HTTP has
/// it as an extension, every session of RESP as a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerNames(Arc<[PeerName]>);

impl PeerNames {
    /// Those in the first of these certificates, which have to be verified.
    pub(crate) fn of(certificates: Option<&[CertificateDer<'_>]>) -> Self {
        let Some(own) = certificates.and_then(|all| all.first()) else { return Self::default() };
        match x509::alternative_names(own) {
            Some(names) => PeerNames(names.into()),
            None => {
                tracing::warn!("the names in a client's certificate cannot be read; it counts as one without names");
                Self::default()
            }
        }
    }
}

impl std::ops::Deref for PeerNames {
    type Target = [PeerName];

    fn deref(&self) -> &[PeerName] {
        &self.0
    }
}

impl FromIterator<PeerName> for PeerNames {
    fn from_iter<T: IntoIterator<Item = PeerName>>(names: T) -> Self {
        PeerNames(names.into_iter().collect())
    }
}

/// What TLS is spoken with now, and the files that it comes from.
pub struct Tls {
    settings: TlsSettings,
    current: ArcSwap<Loaded>,
    /// Why the files as they are now are not what is in use, if they are not.
    refused: Mutex<Option<TlsError>>,
}

/// Without keys.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When they cannot be read, or TLS cannot be spoken with what is in them.
    pub fn open(settings: TlsSettings) -> Result<Arc<Self>, TlsError> {
        let loaded = Files::read(&settings)?.load(&settings)?;
        Ok(Arc::new(Tls { settings, current: ArcSwap::from_pointee(loaded), refused: Mutex::default() }))
    }

    /// How long a handshake may take.
    pub fn handshake_timeout(&self) -> Duration {
        self.settings.handshake_timeout
    }

    /// The certificates in use, for whoever looks at when they run out.
    pub fn certificates(&self) -> Vec<Certificate> {
        self.current.load().certificates.clone()
    }

    /// Why the files as they are now are not what is in use, if they are not.
    pub fn refused(&self) -> Option<TlsError> {
        self.refused.lock().clone()
    }

    /// Whether the certificate in use is for this host.
    pub fn is_for(&self, host: &str) -> bool {
        self.current.load().hosts.iter().any(|name| matches_host(name, host))
    }

    /// What clients of Redis are spoken to with.
    pub fn resp(&self) -> Arc<ServerConfig> {
        self.current.load().resp.clone()
    }

    /// Begins to speak TLS with a client of HTTP.
    ///
    /// # Errors
    /// When it does not, or not in time, or shows a certificate that is not taken.
    pub async fn accept(&self, connection: TcpStream, plainly: &[u8]) -> io::Result<(TlsStream<TcpStream>, PeerNames)> {
        let accepting = async {
            greet(&connection, plainly).await?;
            let stream = TlsAcceptor::from(self.current.load().http.clone()).accept(connection).await?;
            let names = PeerNames::of(stream.get_ref().1.peer_certificates());
            Ok((stream, names))
        };
        timeout(self.handshake_timeout(), accepting).await.unwrap_or_else(|_| Err(late()))
    }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the handshake was not over in time")
}

/// Waits for a client to begin a handshake. One who speaks without TLS is told so in these words.
///
/// # Errors
/// When that was so, or the client has gone.
async fn greet(connection: &TcpStream, plainly: &[u8]) -> io::Result<()> {
    if is_handshake(connection).await? {
        return Ok(());
    }
    let heard = timeout(LINGER, tell(connection, plainly)).await;
    tracing::debug!(?heard, "somebody who speaks without TLS was told");
    Err(io::Error::new(io::ErrorKind::InvalidData, "it was spoken without TLS"))
}

/// Says something without TLS, and waits until it was heard.
async fn tell(connection: &TcpStream, plainly: &[u8]) -> io::Result<()> {
    let mut left = plainly;
    while !left.is_empty() {
        connection.writable().await?;
        match connection.try_write(left) {
            Ok(n) => left = &left[n..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    rustix::net::shutdown(connection, rustix::net::Shutdown::Write)?;
    let (mut heard, mut all) = ([0; 4 << 10], 0);
    while all < LINGER_BYTES {
        connection.readable().await?;
        match connection.try_read(&mut heard) {
            Ok(0) => break,
            Ok(n) => all += n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether a client begins as TLS does. One that says nothing is waited for.
async fn is_handshake(connection: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    match connection.peek(&mut first).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(first[0] == HANDSHAKE),
    }
}

/// Whether a name in a certificate is this host's: the same, or `*` for its first part (RFC 6125).
fn matches_host(name: &str, host: &str) -> bool {
    match (name.strip_prefix("*."), host.split_once('.')) {
        (Some(rest), Some((first, after))) => !first.is_empty() && rest.eq_ignore_ascii_case(after),
        _ => name.eq_ignore_ascii_case(host),
    }
}

#[cfg(test)]
mod tests;
