//! Names in certificates, renewal, and handshakes as each door makes them.

use std::fs;
use std::io::{Read, Write};
use std::time::SystemTime;

use larder_testkit::certificates::{Authority, For, Signed};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("it was made as PEM")
}

/// A folder with the files of a server.
struct Files {
    folder: TempDir,
    authority: Authority,
}

impl Files {
    fn make() -> Self {
        let files = Files { folder: tempfile::tempdir().expect("temporary files can be written"), authority: Authority::new() };
        files.write(&files.authority.server());
        fs::write(files.path("ca"), files.authority.pem()).expect("it can be written");
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, signed: &Signed) {
        fs::write(self.path("certificate"), &signed.certificate).expect("it can be written");
        fs::write(self.path("key"), &signed.key).expect("it can be written");
    }

    fn settings(&self, clients: ClientCertificates) -> TlsSettings {
        let (handshake_timeout, look_every) = (PATIENCE, Duration::from_secs(30));
        TlsSettings {
            certificate: self.path("certificate"),
            key: self.path("key"),
            clients,
            only_1_3: false,
            handshake_timeout,
            look_every,
        }
    }

    fn client(&self, own: Option<&Signed>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(der(self.authority.pem())).expect("it is an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions();
        let builder = builder.expect("ring has them").with_root_certificates(roots);
        Arc::new(match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("it was made as PEM");
                builder.with_client_auth_cert(vec![der(&own.certificate)], key).expect("they belong together")
            }
        })
    }
}

#[test]
fn names_are_those_of_the_certificate() {
    let authority = Authority::new();
    let names = ["dns:Feed.Example.org", "ip:10.0.0.1", "uri:spiffe://example.org/feed", "email:ada@example.org", "dns:*.example.org"];
    let names = PeerNames::of(Some(&[der(&authority.client(&names).certificate)]));
    let shown: Vec<String> = names.iter().map(PeerName::to_string).collect();
    assert_eq!(shown, ["dns:feed.example.org", "uri:spiffe://example.org/feed", "email:ada@example.org", "dns:*.example.org"]);
    assert_eq!(PeerNames::of(None), PeerNames::default());
    assert!(PeerNames::of(Some(&[der(&authority.client(&[]).certificate)])).is_empty());
    let many: Vec<String> = (0..100).map(|n| format!("dns:host-{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(PeerNames::of(Some(&[der(&authority.client(&many).certificate)])).len(), 64, "they are bounded");
}

#[test]
fn a_certificate_that_is_cut_or_bent_has_other_names_or_none_and_nothing_panics() {
    let whole = der(&Authority::new().client(&["uri:spiffe://example.org/feed", "dns:a"]).certificate);
    assert_eq!(x509::alternative_names(&whole).map(|names| names.len()), Some(2));
    for at in 0..whole.len() {
        assert_eq!(x509::alternative_names(&whole[..at]), None, "cut at {at}");
        let mut bent = whole.to_vec();
        bent[at] ^= 0xff;
        std::hint::black_box(x509::alternative_names(&bent));
    }
}

#[test]
fn hosts_match_as_certificates_say() {
    for (name, host) in [("a.example", "A.example"), ("*.example", "b.example"), ("*.b.example", "a.B.example")] {
        assert!(matches_host(name, host), "{name} is for {host}");
    }
    for (name, host) in [("*.example", "example"), ("*.example", "a.b.example"), ("*.example", ".example"), ("a.example", "b.example")] {
        assert!(!matches_host(name, host), "{name} is not for {host}");
    }
}

#[test]
fn what_cannot_be_used_is_told_by_its_file_and_never_with_a_key() {
    let files = Files::make();
    let open = |clients| Tls::open(files.settings(clients)).expect_err("it cannot be used");
    let (good, other) = (files.authority.server(), files.authority.server());
    files.write(&Signed { key: other.key.clone(), ..good.clone() });
    let told = open(ClientCertificates::Off);
    assert!(told.setting == "tls.certificate" && told.to_string().ends_with("does not belong to the key"), "{told}");
    files.write(&Signed { key: "-----BEGIN PRIVATE KEY-----\nS3CRET!\n-----END PRIVATE KEY-----\n".into(), ..good.clone() });
    let told = open(ClientCertificates::Off);
    assert!(told.setting == "tls.key" && !told.to_string().contains("S3CRET"), "{told}");
    files.write(&Signed { certificate: good.key.clone(), ..good.clone() });
    assert!(open(ClientCertificates::Off).to_string().ends_with("has no certificate in PEM form in it"));
    files.write(&good);
    let absent = open(ClientCertificates::Required(files.path("absent")));
    assert!(absent.setting == "tls.client_authority" && absent.to_string().contains("cannot be read"), "{absent}");
    fs::write(files.path("large"), vec![b' '; (4 << 20) + 1]).expect("it can be written");
    assert!(open(ClientCertificates::Optional(files.path("large"))).to_string().contains("more than 4 MiB"));
}

#[test]
fn new_files_are_taken_and_bad_ones_change_nothing() {
    let files = Files::make();
    let tls = Tls::open(files.settings(ClientCertificates::Off)).expect("it is well");
    assert_eq!(tls.look(), Renewal::Unchanged);
    let first = tls.certificates();
    let until = SystemTime::now() + Duration::from_secs(2 * 86_400);
    let new = files.authority.sign(For::Server, &["dns:new.example"], until);
    fs::write(files.path("certificate"), &new.certificate).expect("it can be written");
    let Renewal::Refused(why) = tls.look() else { panic!("it has the key of the one before") };
    assert_eq!((tls.refused(), tls.certificates()), (Some(why), first.clone()));
    assert!(tls.is_for("localhost") && !tls.is_for("new.example"));
    fs::write(files.path("key"), &new.key).expect("it can be written");
    assert_eq!((tls.look(), tls.refused(), tls.look()), (Renewal::Renewed, None, Renewal::Unchanged));
    assert!(tls.is_for("new.example") && tls.certificates() != first);
    fs::remove_file(files.path("key")).expect("it is there");
    assert!(matches!(tls.look(), Renewal::Refused(_)) && tls.is_for("new.example"));
    fs::write(files.path("key"), &new.key).expect("it can be written");
    assert_eq!((tls.look(), tls.refused()), (Renewal::Unchanged, None), "what was is right again");
}

/// A client's side of a connection, on a thread: says something and returns what is said to it.
fn converse(addr: std::net::SocketAddr, config: Arc<ClientConfig>) -> io::Result<Vec<u8>> {
    let tcp = std::net::TcpStream::connect(addr)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    let connection = ClientConnection::new(config, ServerName::try_from("localhost").expect("a name")).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, tcp);
    stream.write_all(&vec![b'x'; 100_000])?;
    stream.flush()?;
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard)?;
    Ok(heard)
}

/// Serves one connection as the door for clients of Redis does: sends back what comes, as much again as there was, and ends.
async fn echo(listener: &TcpListener, tls: &Tls) -> io::Result<PeerNames> {
    let (tcp, _) = listener.accept().await?;
    let socket = Socket::new(tcp, tls.resp())?;
    let names = socket.shake_hands(tls, b"plainly").await?;
    let mut heard = Vec::new();
    while heard.len() < 100_000 {
        socket.readable().await?;
        heard.reserve(1_000);
        match socket.try_read(&mut heard) {
            Ok(0) => break,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
    }
    let (said, mut at) = (heard.repeat(2), 0);
    while at < said.len() || !socket.try_flush()? {
        match socket.try_write(&said[at..]) {
            Ok(n) => at += n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.writable().await?,
            Err(error) => return Err(error),
        }
    }
    socket.close();
    Ok(names)
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_known_by_what_they_show() {
    let files = Files::make();
    let own = files.authority.client(&["uri:spiffe://example.org/feed"]);
    let stranger = Authority::new().client(&["uri:spiffe://example.org/feed"]);
    let (optional, required) = (ClientCertificates::Optional(files.path("ca")), ClientCertificates::Required(files.path("ca")));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("it has one");
    let cases = [
        (ClientCertificates::Off, None, Some(0)),
        (ClientCertificates::Off, Some(&own), Some(0)),
        (optional.clone(), None, Some(0)),
        (optional.clone(), Some(&own), Some(1)),
        (optional, Some(&stranger), None),
        (required.clone(), None, None),
        (required.clone(), Some(&own), Some(1)),
        (required, Some(&stranger), None),
    ];
    for (clients, shown, expected) in cases {
        let what = format!("{clients:?}, {}", shown.is_some());
        let tls = Tls::open(files.settings(clients)).expect("it is well");
        for door in ["resp", "http"] {
            let client = files.client(shown);
            let asking = tokio::task::spawn_blocking(move || converse(addr, client));
            let found = match door {
                "resp" => echo(&listener, &tls).await,
                _ => {
                    let (tcp, _) = listener.accept().await.expect("it is accepted");
                    match tls.accept(tcp, b"plainly").await {
                        Ok((mut stream, names)) => {
                            // What was not read would have the connection reset.
                            stream.read_exact(&mut vec![0; 100_000]).await.expect("it sends so much");
                            stream.write_all(&vec![b'x'; 200_000]).await.expect("it can be told");
                            stream.shutdown().await.expect("it can be ended");
                            Ok(names)
                        }
                        Err(error) => Err(error),
                    }
                }
            };
            let heard = asking.await.expect("it does not panic");
            assert_eq!(found.as_ref().ok().map(|names| names.len()), expected, "{what} at {door}: {found:?}");
            assert_eq!(heard.is_ok_and(|heard| heard == vec![b'x'; 200_000]), expected.is_some(), "{what} at {door}");
        }
    }
}
