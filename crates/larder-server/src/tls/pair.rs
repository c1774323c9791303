//! A certificate, its key and whose clients are taken: from files to what rustls speaks with. What is wrong is told by the file, and
//! never with anything of what is in it, since that could be a key.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::digest;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, version};

use super::x509;
use super::{ClientCertificates, PeerName, TlsSettings};
use crate::health::certificates::Certificate;

/// The largest file that is read: a chain has a few kilobytes, the authorities of a whole system some hundred.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Why TLS cannot be spoken with some files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError {
    /// The setting that is at fault: `tls.certificate`, `tls.key` or `tls.client_authority`.
    pub setting: &'static str,
    path: PathBuf,
    what: String,
}

impl TlsError {
    fn new(setting: &'static str, path: &Path, what: impl Into<String>) -> Self {
        TlsError { setting, path: path.to_owned(), what: what.into() }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.setting, self.path.display(), self.what)
    }
}

impl std::error::Error for TlsError {}

/// The setting of the certificate.
pub const CERTIFICATE: &str = "tls.certificate";
const KEY: &str = "tls.key";
const AUTHORITY: &str = "tls.client_authority";

/// What the files hold.
pub struct Files {
    chain: Vec<u8>,
    key: Vec<u8>,
    authority: Option<Vec<u8>>,
}

/// By what a content is known again.
pub type Mark = [u8; digest::SHA256_OUTPUT_LEN];

/// What TLS is spoken with.
pub struct Loaded {
    /// With clients of HTTP.
    pub http: Arc<ServerConfig>,
    /// With clients of Redis.
    pub resp: Arc<ServerConfig>,
    /// When what runs out.
    pub certificates: Vec<Certificate>,
    /// The hosts that the certificate is for.
    pub hosts: Vec<String>,
    /// What it was made of.
    pub mark: Mark,
}

impl Files {
    /// Reads them.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn read(settings: &TlsSettings) -> Result<Self, TlsError> {
        let read = |setting, path: &Path| bounded(path).map_err(|error| TlsError::new(setting, path, format!("cannot be read: {error}")));
        Ok(Files {
            chain: read(CERTIFICATE, &settings.certificate)?,
            key: read(KEY, &settings.key)?,
            authority: settings.clients.authority().map(|path| read(AUTHORITY, path)).transpose()?,
        })
    }

    /// The same for the same content.
    pub fn mark(&self) -> Mark {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [&self.chain, &self.key, self.authority.as_ref().unwrap_or(&Vec::new())] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        context.finish().as_ref().try_into().expect("a SHA-256 has as many bytes")
    }

    /// Makes of them what TLS is spoken with.
    ///
    /// # Errors
    /// When something in them is not what it should be, or key and certificate do not belong together.
    pub fn load(&self, settings: &TlsSettings) -> Result<Loaded, TlsError> {
        let chain = certificates(&self.chain).map_err(|what| TlsError::new(CERTIFICATE, &settings.certificate, what))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| TlsError::new(KEY, &settings.key, "has no private key in PEM form in it, or one that is encrypted"))?;
        let hosts = match x509::alternative_names(&chain[0]) {
            Some(names) => names.into_iter().filter_map(|name| if let PeerName::Dns(host) = name { Some(host) } else { None }).collect(),
            None => Vec::new(),
        };
        let provider = Arc::new(default_provider());
        let versions: &[_] = if settings.only_1_3 { &[&version::TLS13] } else { &[&version::TLS13, &version::TLS12] };
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .expect("ring has ciphers for every version");
        let mut expiring = vec![Certificate::of(CERTIFICATE, &self.chain)];
        let builder = match (&settings.clients, &self.authority) {
            (ClientCertificates::Off, _) | (_, None) => builder.with_no_client_auth(),
            (ClientCertificates::Optional(path) | ClientCertificates::Required(path), Some(pem)) => {
                let wrong = |what| TlsError::new(AUTHORITY, path, what);
                let verifier = WebPkiClientVerifier::builder_with_provider(authorities(pem).map_err(wrong)?.into(), provider);
                let is_optional = matches!(settings.clients, ClientCertificates::Optional(_));
                let verifier = if is_optional { verifier.allow_unauthenticated() } else { verifier };
                expiring.push(Certificate::of(AUTHORITY, pem));
                builder.with_client_cert_verifier(verifier.build().map_err(|error| wrong(format!("is of no use: {error}")))?)
            }
        };
        let mut http = builder.with_single_cert(chain, key).map_err(|error| {
            let what = match error {
                rustls::Error::InconsistentKeys(_) => "does not belong to the key".to_owned(),
                error => format!("cannot be used with its key: {error}"),
            };
            TlsError::new(CERTIFICATE, &settings.certificate, what)
        })?;
        if !matches!(settings.clients, ClientCertificates::Off) {
            // A session that is taken up again would not have its certificate looked at again: one that has run out would do.
            http.session_storage = Arc::new(NoServerSessionStorage {});
            http.send_tls13_tickets = 0;
        }
        let mut resp = http.clone();
        // A client that wants to speak another protocol here has come to the wrong door, or was sent there by somebody who hopes that
        // one protocol is taken for the other. Clients of Redis name none.
        http.alpn_protocols = vec![b"http/1.1".to_vec()];
        resp.alpn_protocols = vec![b"redis".to_vec()];
        Ok(Loaded { http: Arc::new(http), resp: Arc::new(resp), certificates: expiring, hosts, mark: self.mark() })
    }
}

fn bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {} MiB", FILE_BYTES_MAX >> 20)));
    }
    Ok(bytes)
}

/// The certificates in a text in PEM form; at least one.
///
/// # Errors
/// What is wrong with it, in words that follow the name of its file.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|_| "has a certificate in it that is not as PEM has it".to_owned())?;
    if all.is_empty() { Err("has no certificate in PEM form in it".to_owned()) } else { Ok(all) }
}

fn authorities(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for authority in certificates(pem)? {
        store.add(authority).map_err(|error| format!("has a certificate in it that is no authority's: {error}"))?;
    }
    Ok(store)
}
