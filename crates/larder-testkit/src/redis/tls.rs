//! Certificates for a moment: an authority, a server's and a client's certificate, made by the `openssl` program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use tempfile::TempDir;

use super::{StartError, installed};

/// That a server speaks TLS, on a port of its own beside the plain one.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificates: the server shows [`server`](Certificates::server_certificate), and trusts clients of the same
    /// authority.
    pub certificates: Arc<Certificates>,
    /// Whether it demands a certificate of each client; otherwise it asks for none.
    pub demands_client_certificate: bool,
}

/// An authority and what it signed, as PEM files in a temporary folder that ends with this. Each is an authority of its
/// own, so a client that trusts one does not trust a server of another.
#[derive(Debug)]
pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// Makes them: keys on the curve P-256, valid from now for a day. The server's is for `localhost` and 127.0.0.1.
    ///
    /// # Errors
    ///
    /// When `openssl` is not installed, or refuses.
    pub fn make() -> Result<Self, StartError> {
        let openssl = installed("openssl")?;
        let folder = tempfile::tempdir().map_err(|error| StartError::Failed(format!("no temporary folder: {error}")))?;
        let made = Certificates { folder };
        let run = |arguments: &str| run(&openssl, made.folder.path(), arguments);
        made.write("server.ext", "subjectAltName = DNS:localhost, IP:127.0.0.1\nextendedKeyUsage = serverAuth\n")?;
        made.write("client.ext", "extendedKeyUsage = clientAuth\n")?;
        run(&format!("req -x509 {KEY} -days 1 -subj /CN=larder-test-authority -keyout ca.key -out ca.crt"))?;
        for name in ["server", "client"] {
            run(&format!("req {KEY} -subj /CN=larder-test-{name} -keyout {name}.key -out {name}.csr"))?;
            let signing = "-CA ca.crt -CAkey ca.key -CAcreateserial -days 1";
            run(&format!("x509 -req {signing} -in {name}.csr -extfile {name}.ext -out {name}.crt"))?;
        }
        Ok(made)
    }

    /// The authority's certificate: what a client has to trust.
    pub fn authority(&self) -> PathBuf {
        self.file("ca.crt")
    }

    /// The server's certificate.
    pub fn server_certificate(&self) -> PathBuf {
        self.file("server.crt")
    }

    /// The server's private key.
    pub fn server_key(&self) -> PathBuf {
        self.file("server.key")
    }

    /// A client's certificate.
    pub fn client_certificate(&self) -> PathBuf {
        self.file("client.crt")
    }

    /// The client's private key.
    pub fn client_key(&self) -> PathBuf {
        self.file("client.key")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), StartError> {
        let file = self.file(name);
        fs::write(&file, text).map_err(|error| StartError::Failed(format!("{} cannot be written: {error}", file.display())))
    }
}

/// A new key, unencrypted. An elliptic one, because it takes no time to make.
const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

fn run(openssl: &Path, folder: &Path, arguments: &str) -> Result<(), StartError> {
    let mut command = Command::new(openssl);
    command.args(arguments.split(' ')).current_dir(folder).stdin(Stdio::null());
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            Err(StartError::Failed(format!("`openssl {arguments}` failed: {}", String::from_utf8_lossy(&output.stderr).trim_end())))
        }
        Err(error) => Err(StartError::Failed(format!("`openssl` cannot be run: {error}"))),
    }
}
