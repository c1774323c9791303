//! The cache that the demo runs: larder with its embedded store in a fresh folder, which is removed afterwards.

use std::io;

use larder::Larder;
use tempfile::TempDir;

use super::larder_cache::LarderCache;

/// Memory for about a third of the demo's 770 entries, of some 500 to 900 bytes each with their bookkeeping: the reads
/// favour few keys, so memory answers most of them, and the disk tier answers for the rest instead of standing by.
pub const MEMORY_BYTES: u64 = 192 << 10;

/// A cache in a folder of its own.
pub struct Embedded {
    larder: Larder,
    folder: TempDir,
}

/// Why there is no such cache, or none any more.
#[derive(Debug)]
pub enum EmbeddedError {
    /// The folder for temporary files cannot be used.
    Folder(io::Error),
    /// The cache cannot be opened or closed.
    Cache(larder::Error),
}

impl Embedded {
    /// Opens it, empty.
    pub async fn open() -> Result<Self, EmbeddedError> {
        let folder = tempfile::Builder::new().prefix("larder-demo-").tempdir().map_err(EmbeddedError::Folder)?;
        let builder = Larder::builder().data(folder.path()).memory(MEMORY_BYTES);
        let builder = LarderCache::policies().into_iter().fold(builder, |builder, (name, policy)| builder.namespace(name, policy));
        let larder = builder.build().await.map_err(EmbeddedError::Cache)?;
        Ok(Self { larder, folder })
    }

    /// The cache.
    pub fn larder(&self) -> &Larder {
        &self.larder
    }

    /// Closes it and removes its folder.
    pub async fn close(self) -> Result<(), EmbeddedError> {
        let closed = self.larder.close().await.map_err(EmbeddedError::Cache);
        let removed = self.folder.close().map_err(EmbeddedError::Folder);
        closed.and(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_left_behind() {
        let embedded = Embedded::open().await.expect("temporary files can be written");
        let path = embedded.folder.path().to_owned();
        assert!(path.join("disk").is_dir(), "it keeps entries on disk");
        embedded.close().await.expect("it can be closed");
        assert!(!path.exists());
    }
}
