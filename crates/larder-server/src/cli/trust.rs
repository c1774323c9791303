//! Whom the command line trusts when it speaks TLS, and what it shows of itself.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use super::client::ServerArgs;
use super::failure::Failure;
use crate::tls;

/// What the arguments say: the authority that they name, or those of the system; and a certificate, if they have one.
///
/// # Errors
/// When a file cannot be read or used.
pub fn of(args: &ServerArgs) -> Result<TlsConfig, Failure> {
    let roots = match &args.ca {
        Some(path) => certificates(path, &read(path)?)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    if roots.is_empty() {
        return Err(Failure::new("the system has no authorities to trust").hint("--ca FILE says whose certificates to trust"));
    }
    let roots = RootCerts::new_with_certs(&roots.iter().map(|one| Certificate::from_der(one).to_owned()).collect::<Vec<_>>());
    Ok(TlsConfig::builder()
        .root_certs(roots)
        .client_cert(own(args)?)
        .unversioned_rustls_crypto_provider(Arc::new(default_provider()))
        .build())
}

fn own(args: &ServerArgs) -> Result<Option<ClientCert>, Failure> {
    let Some(path) = &args.client_certificate else { return Ok(None) };
    let pem = read(path)?;
    let chain = certificates(path, &pem)?;
    let key_path = args.client_key.as_ref().unwrap_or(path);
    let key = if key_path == path { pem } else { read(key_path)? };
    let unusable = |what: &str| Failure::new(format!("{} {what}", key_path.display()));
    let key_der = PrivateKeyDer::from_pem_slice(&key).map_err(|_| unusable("has no private key in PEM form in it"))?;
    // Here and not by the client, which takes it for granted.
    CertifiedKey::from_der(chain.clone(), key_der, &default_provider())
        .map_err(|error| unusable(&format!("is not the key of {}: {error}", path.display())))?;
    let key = PrivateKey::from_pem(&key).map_err(|_| unusable("has no private key in PEM form in it"))?;
    let chain: Vec<_> = chain.iter().map(|one| Certificate::from_der(one).to_owned()).collect();
    Ok(Some(ClientCert::new_with_certs(&chain, key)))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::new(format!("{} cannot be read: {error}", path.display())))
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Failure> {
    tls::certificates(pem).map_err(|what| Failure::new(format!("{} {what}", path.display())))
}
