//! The cache that the demo runs: larder with its embedded store in a fresh folder, which is removed afterwards. It is
//! served over HTTP meanwhile, so that whoever watches the demo can look inside.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use larder::Larder;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};

use super::larder_cache::LarderCache;
use crate::access::Door;
use crate::cleanup::Cleaner;
use crate::health::Watched;
use crate::serve::{BindError, Bound, Serve, ServeError};
use crate::settings::{Guards, HttpLimits, RespSettings, UpkeepSettings, Webhooks};

/// How long someone who is looking may keep the demo from ending.
const DRAIN: Duration = Duration::from_secs(1);

/// Memory for a good half of the demo's 770 entries, of some 500 to 900 bytes each with their bookkeeping: the reads
/// favour few keys, so memory answers most of them, and the disk tier answers for the rest instead of standing by.
pub const MEMORY_BYTES: u64 = 512 << 10;

/// A cache in a folder of its own.
pub struct Embedded {
    larder: Larder,
    folder: TempDir,
    addr: SocketAddr,
    /// Dropping it ends the server.
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), ServeError>>,
}

/// Why there is no such cache, or none any more.
#[derive(Debug)]
pub enum EmbeddedError {
    /// The folder for temporary files cannot be used.
    Folder(io::Error),
    /// The cache cannot be opened or closed.
    Cache(larder::Error),
    /// No address can be listened on.
    Listen(BindError),
    /// Serving did not end in order.
    Serve(ServeError),
    /// The server broke.
    Broke(JoinError),
}

impl Embedded {
    /// Opens it, empty.
    pub async fn open() -> Result<Self, EmbeddedError> {
        let folder = tempfile::Builder::new().prefix("larder-demo-").tempdir().map_err(EmbeddedError::Folder)?;
        let builder = Larder::builder().data(folder.path()).memory(MEMORY_BYTES);
        let builder = LarderCache::policies().into_iter().fold(builder, |builder, (name, policy)| builder.namespace(name, policy));
        let larder = builder.build().await.map_err(EmbeddedError::Cache)?;
        let bound = bind(&larder).await.map_err(EmbeddedError::Listen)?;
        let (addr, (stop, stopped)) = (bound.http_addr(), oneshot::channel());
        let stopped = async {
            // An error says that the sender was dropped, which is how it is told.
            stopped.await.unwrap_or_default();
        };
        Ok(Self { larder, folder, addr, stop, server: tokio::spawn(bound.run_until(stopped)) })
    }

    /// Where it is served.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The cache.
    pub fn larder(&self) -> &Larder {
        &self.larder
    }

    /// Closes it and removes its folder.
    pub async fn close(self) -> Result<(), EmbeddedError> {
        drop(self.stop);
        // The server closes the cache in the end.
        let served = self.server.await.map_err(EmbeddedError::Broke).and_then(|served| served.map_err(EmbeddedError::Serve));
        let removed = self.folder.close().map_err(EmbeddedError::Folder);
        served.and(removed)
    }
}

async fn bind(larder: &Larder) -> Result<Bound, BindError> {
    let http = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let serve = Serve {
        larder: larder.clone(),
        http,
        limits: HttpLimits::default(),
        resp: RespSettings::default(),
        webhooks: Webhooks::default(),
        guards: Guards::default(),
        audit: None,
        door: Door::open(),
        is_strict: false,
        watched: Watched::default(),
        drain: DRAIN,
        history: None,
        upkeep: UpkeepSettings::default(),
        cleaner: Cleaner::of(larder),
        jobs: None,
        backups: None,
    };
    serve.bind().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_left_behind() {
        let embedded = Embedded::open().await.expect("temporary files can be written");
        let path = embedded.folder.path().to_owned();
        assert!(path.join("disk").is_dir(), "it keeps entries on disk");
        tokio::net::TcpStream::connect(embedded.addr()).await.expect("it is served");
        let addr = embedded.addr();
        embedded.close().await.expect("it can be closed");
        assert!(tokio::net::TcpStream::connect(addr).await.is_err(), "it is no longer served");
        assert!(!path.exists());
    }
}
