//! Certificates for a moment, made here: an authority and whatever it signs, as PEM, with any names and any time. It needs no program
//! that might not be installed.

use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};

/// An authority. Each is one of its own, so a client that trusts one does not trust what another signed.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, as PEM.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// Whom a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// A server.
    Server,
    /// A client.
    Client,
}

/// How long certificates hold unless told otherwise.
const DAY: Duration = Duration::from_secs(86_400);

impl Authority {
    /// Makes one.
    ///
    /// # Panics
    /// When keys cannot be made.
    #[allow(clippy::new_without_default, reason = "no two are the same")]
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("keys can be made");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "larder-test-authority");
        params.not_after = (SystemTime::now() + DAY).into();
        let pem = params.self_signed(&key).expect("it signs itself").pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// Its certificate, which those have who trust it.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A server's, for `localhost` and 127.0.0.1, that holds for a day.
    pub fn server(&self) -> Signed {
        self.sign(For::Server, &["dns:localhost", "ip:127.0.0.1"], SystemTime::now() + DAY)
    }

    /// A client's with these names, that holds for a day.
    pub fn client(&self, names: &[&str]) -> Signed {
        self.sign(For::Client, names, SystemTime::now() + DAY)
    }

    /// A certificate that holds until then, which may be over, with these names: `dns:localhost`, `ip:127.0.0.1`, `uri:spiffe://example.org/feed`, `email:ada@example.org`.
    ///
    /// # Panics
    /// For what is no such name.
    pub fn sign(&self, whom: For, names: &[&str], until: SystemTime) -> Signed {
        let key = KeyPair::generate().expect("keys can be made");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "larder-test");
        let ascii = |name: &str| name.try_into().expect("names are ASCII");
        params.subject_alt_names.extend(names.iter().map(|name| match name.split_once(':').expect("it says what kind it is") {
            ("dns", name) => SanType::DnsName(ascii(name)),
            ("uri", name) => SanType::URI(ascii(name)),
            ("email", name) => SanType::Rfc822Name(ascii(name)),
            ("ip", name) => SanType::IpAddress(name.parse().expect("an address")),
            (kind, _) => panic!("{kind} is no kind of name"),
        }));
        params.extended_key_usages.push(match whom {
            For::Server => ExtendedKeyUsagePurpose::ServerAuth,
            For::Client => ExtendedKeyUsagePurpose::ClientAuth,
        });
        params.not_after = until.into();
        let certificate = params.signed_by(&key, &self.issuer).expect("it signs").pem();
        Signed { certificate, key: key.serialize_pem() }
    }
}
