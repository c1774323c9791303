//! Keys on the command line: public ones to encrypt to, and where secret ones are. They are read here, where who asks has them, and sent to
//! the server that is asked, as a token is; or used here, where a place is looked at without one. What is no reference is not repeated: it
//! may be the secret.

use std::collections::BTreeMap;

use clap::Args;

use super::super::failure::Failure;
use crate::backup::keys::{Hidden, Keys, Passphrase, Recipient};
use crate::config::{REFERENCE_EXPECTED, Reference};

/// What a backup is to be sealed by.
#[derive(Debug, Args)]
pub struct SealArgs {
    /// Encrypt it to this public key of age, in the place of what the server's backup.encrypt_to says; may be given again
    #[arg(long, value_name = "age1...", conflicts_with = "passphrase")]
    encrypt_to: Vec<String>,
    /// Where the passphrase is to encrypt it by, of 12 characters or more, as env:NAME or file:PATH
    #[arg(long, value_name = "WHERE")]
    passphrase: Option<String>,
}

impl SealArgs {
    /// What is asked of the server.
    pub fn read(&self) -> Result<(Vec<String>, Option<Hidden>), Failure> {
        for key in &self.encrypt_to {
            key.parse::<Recipient>()
                .map_err(|what| Failure::new(format!("--encrypt-to: {what}")).hint("`age-keygen -o KEY` makes a key"))?;
        }
        let text = self.passphrase.as_deref().map(|at| secret("--passphrase", at)).transpose()?;
        if let Some(text) = &text {
            Passphrase::to_seal_by(text.clone()).map_err(|what| Failure::new(format!("--passphrase: {what}")))?;
        }
        Ok((self.encrypt_to.clone(), text.map(Hidden)))
    }
}

/// What opens a backup.
#[derive(Debug, Args)]
pub struct KeyArgs {
    /// Where a file of secret keys of age is that opens it, as env:NAME or file:PATH; may be given again
    #[arg(long, value_name = "WHERE")]
    identity: Vec<String>,
    /// Where the passphrase is that opens it, as env:NAME or file:PATH
    #[arg(long, value_name = "WHERE")]
    passphrase: Option<String>,
}

impl KeyArgs {
    /// What is sent to the server.
    pub fn read(&self) -> Result<(Vec<Hidden>, Option<Hidden>), Failure> {
        let mut identities = Vec::new();
        for at in &self.identity {
            let text = secret("--identity", at)?;
            // Told here, where the file is, and not by the server.
            Keys::default().add_identities(&text).map_err(|what| Failure::new(format!("--identity {at}: {what}")))?;
            identities.push(Hidden(text));
        }
        let passphrase = self.passphrase.as_deref().map(|at| secret("--passphrase", at).map(Hidden)).transpose()?;
        Ok((identities, passphrase))
    }
}

/// What was read, for who opens it here. It is read once: what comes through a pipe is there once.
pub fn keys(identities: &[Hidden], passphrase: Option<&Hidden>) -> Result<Keys, Failure> {
    let mut keys = Keys::default();
    keys.add_given(identities, passphrase).map_err(|what| Failure::new(format!("--identity: {what}")))?;
    Ok(keys)
}

fn secret(option: &str, at: &str) -> Result<String, Failure> {
    let environment: BTreeMap<String, String> =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect();
    let reference = Reference::parse(at).ok_or_else(|| Failure::new(format!("{option}: expected {REFERENCE_EXPECTED}")))?;
    reference.resolve(&environment).map_err(|why| Failure::new(format!("{option} {reference}: {why}")))
}
