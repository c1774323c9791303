//! A server in this process with TLS at its doors, and clients that speak it.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use larder::{Builder, Larder};
use larder_server::access::Door;
use larder_server::cleanup::Cleaner;
use larder_server::health::Watched;
use larder_server::serve::Serve;
use larder_server::settings::{Guards, HealthLimits, HttpLimits, RespSettings, UpkeepSettings, Webhooks};
use larder_server::tls::{ClientCertificates, Tls, TlsSettings};
use larder_testkit::certificates::{Authority, Signed};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The folder of a server's certificates, and who signs them.
pub struct Files {
    folder: TempDir,
    pub authority: Authority,
}

impl Files {
    pub fn make() -> Self {
        let files = Files { folder: tempfile::tempdir().expect("temporary files can be written"), authority: Authority::new() };
        files.write(&files.authority.server());
        fs::write(files.path("ca"), files.authority.pem()).expect("it can be written");
        files
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, signed: &Signed) {
        // As renewal programs do: beside it, and then in its place.
        for (name, pem) in [("certificate", &signed.certificate), ("key", &signed.key)] {
            fs::write(self.path("new"), pem).and_then(|()| fs::rename(self.path("new"), self.path(name))).expect("it can be written");
        }
    }

    pub fn settings(&self) -> TlsSettings {
        TlsSettings {
            certificate: self.path("certificate"),
            key: self.path("key"),
            clients: ClientCertificates::Off,
            only_1_3: false,
            handshake_timeout: PATIENCE,
            look_every: Duration::from_millis(20),
        }
    }

    /// A client that trusts the authority, and shows this certificate.
    pub fn client(&self, own: Option<&Signed>) -> Arc<ClientConfig> {
        self.client_of(rustls::DEFAULT_VERSIONS, own)
    }

    /// One that speaks these versions.
    pub fn client_of(&self, versions: &[&'static SupportedProtocolVersion], own: Option<&Signed>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.pem().as_bytes()).expect("PEM")).expect("it is an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider())).with_protocol_versions(versions);
        let builder = builder.expect("ring has them").with_root_certificates(roots);
        Arc::new(match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = vec![CertificateDer::from_pem_slice(own.certificate.as_bytes()).expect("PEM")];
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("PEM");
                builder.with_client_auth_cert(chain, key).expect("they belong together")
            }
        })
    }
}

/// A server, and where it listens.
pub struct Site {
    pub http: SocketAddr,
    pub resp: SocketAddr,
    runtime: Option<Runtime>,
}

impl Site {
    pub fn start(settings: TlsSettings) -> Self {
        Self::start_with(settings, Larder::builder(), HttpLimits::default())
    }

    pub fn start_with(settings: TlsSettings, cache: Builder, limits: HttpLimits) -> Self {
        Self::begin(settings, cache, limits, Door::open())
    }

    /// One that lets in whom this door lets in.
    pub fn start_behind(settings: TlsSettings, door: Arc<Door>) -> Self {
        Self::begin(settings, Larder::builder(), HttpLimits::default(), door)
    }

    fn begin(settings: TlsSettings, cache: Builder, limits: HttpLimits, door: Arc<Door>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads can be had");
        let bound = runtime.block_on(async {
            let local = Some(([127, 0, 0, 1], 0).into());
            let health = HealthLimits { probe_every: Duration::from_millis(20), ..HealthLimits::default() };
            let larder = cache.build().await.expect("a cache in memory");
            let serve = Serve {
                cleaner: Cleaner::of(&larder),
                larder,
                http: ([127, 0, 0, 1], 0).into(),
                limits,
                resp: RespSettings { listen: local, threads: 1, ..RespSettings::default() },
                webhooks: Webhooks::default(),
                guards: Guards { tls: Some(Tls::open(settings).expect("it is well")), ..Guards::default() },
                door,
                audit: None,
                is_strict: false,
                watched: Watched { limits: health, ..Watched::default() },
                drain: PATIENCE,
                history: None,
                upkeep: UpkeepSettings::default(),
                jobs: None,
                backups: None,
            };
            serve.bind().await.expect("there are free ports")
        });
        let (http, resp) = (bound.http_addr(), bound.resp_addr().expect("it was asked for"));
        runtime.spawn(bound.run_until(std::future::pending()));
        Site { http, resp, runtime: Some(runtime) }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.runtime.take().expect("only here").shutdown_background();
    }
}

/// A connection by TLS.
pub struct Client(StreamOwned<ClientConnection, TcpStream>);

pub fn tcp(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream
}

impl Client {
    /// Connects, with the handshake.
    pub fn connect(addr: SocketAddr, config: Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from("localhost").expect("a name");
        let mut stream = StreamOwned::new(ClientConnection::new(config, name).map_err(io::Error::other)?, tcp(addr));
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Client(stream))
    }

    /// The certificate that it was shown.
    pub fn shown(&self) -> Vec<u8> {
        self.0.conn.peer_certificates().expect("servers show one")[0].to_vec()
    }

    /// Sends something, and returns what comes until it ends with this.
    pub fn ask(&mut self, bytes: &[u8], end: &[u8]) -> io::Result<Vec<u8>> {
        self.0.write_all(bytes)?;
        self.0.flush()?;
        let (mut heard, mut part) = (Vec::new(), [0; 16 << 10]);
        while !heard.ends_with(end) {
            match self.0.read(&mut part)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => heard.extend_from_slice(&part[..n]),
            }
        }
        Ok(heard)
    }

    /// A request over HTTP, whole or its first line alone, and its answer, which ends the connection.
    pub fn request(addr: SocketAddr, config: Arc<ClientConfig>, request: &str) -> io::Result<String> {
        let mut client = Client::connect(addr, config)?;
        let rest = if request.contains("\r\n") { "" } else { " HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n" };
        client.0.write_all(format!("{request}{rest}").as_bytes())?;
        let mut heard = String::new();
        client.0.read_to_string(&mut heard)?;
        Ok(heard)
    }
}
