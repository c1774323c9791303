//! What instances that share a cache leave for each other to read: not entries, so that nothing which is invalidated takes it away.
//!
//! The program ships its history so. What is in a parcel, only who ships it and who reads it know.

use std::time::Duration;

use bytes::Bytes;

use crate::cache::Larder;
use crate::error::{Error, ErrorKind, Result};
use crate::log::Log;

/// The most bytes of a parcel.
pub const PARCEL_BYTES_MAX: usize = 1 << 20;

/// The most parcels that are shipped or read in one step.
pub const PARCELS_MAX: usize = 256;

/// The longest name of a sender or a parcel.
const NAME_LEN_MAX: usize = 128;

/// Something that one instance leaves for the others to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// What it is called; one of the same name and sender takes its place.
    pub name: String,
    /// What is in it.
    pub bytes: Bytes,
}

/// How much of a sender's is kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParcelBounds {
    /// Of more parcels than that the oldest go.
    pub parcels_max: usize,
    /// All of it goes when nothing was shipped for so long.
    pub life: Duration,
}

impl Larder {
    /// Leaves parcels for all instances that share the cache, in this order. Says whether there is a place for them: a cache of this
    /// process alone has none. Invalidations do not touch them, nor do they take part in any promise: Redis may lose them.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for a name that is empty or over 128 bytes, a parcel over 1 MiB, or more than [`PARCELS_MAX`] at
    /// once; [`ErrorKind::LogUnavailable`] and [`ErrorKind::Tier`] when Redis cannot be reached, or refuses.
    #[cfg_attr(not(feature = "redis"), expect(unused_variables, reason = "there is no log but the local one"))]
    pub async fn ship(&self, sender: &str, parcels: &[Parcel], kept: ParcelBounds) -> Result<bool> {
        parcels.iter().map(|parcel| &*parcel.name).chain([sender]).try_for_each(check_name)?;
        if parcels.len() > PARCELS_MAX || parcels.iter().any(|parcel| parcel.bytes.len() > PARCEL_BYTES_MAX) {
            let message = format!("at most {PARCELS_MAX} parcels are shipped at once, of at most {PARCEL_BYTES_MAX} bytes each");
            return Err(Error::new(ErrorKind::InvalidConfig, message));
        }
        match &self.0.log {
            Log::Local(_) => Ok(false),
            #[cfg(feature = "redis")]
            Log::Redis(log) => log.ship(sender, parcels, kept).await.map(|()| true),
        }
    }

    /// Who has shipped parcels that are still kept. Nobody, for a cache of this process alone.
    ///
    /// # Errors
    /// [`ErrorKind::LogUnavailable`] and [`ErrorKind::Tier`] when Redis cannot be reached.
    pub async fn senders(&self) -> Result<Vec<String>> {
        match &self.0.log {
            Log::Local(_) => Ok(Vec::new()),
            #[cfg(feature = "redis")]
            Log::Redis(log) => log.senders().await,
        }
    }

    /// What a sender has shipped after the parcel of this number, the oldest first, each with its number; at most [`PARCELS_MAX`]. Zero
    /// is before the first. A parcel that was shipped again is told again, under its new number.
    ///
    /// # Errors
    /// As [`senders`](Self::senders).
    #[cfg_attr(not(feature = "redis"), expect(unused_variables, reason = "there is no log but the local one"))]
    pub async fn shipped(&self, sender: &str, after: u64) -> Result<Vec<(u64, Parcel)>> {
        check_name(sender)?;
        match &self.0.log {
            Log::Local(_) => Ok(Vec::new()),
            #[cfg(feature = "redis")]
            Log::Redis(log) => log.shipped(sender, after).await,
        }
    }
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > NAME_LEN_MAX {
        return Err(Error::new(ErrorKind::InvalidConfig, "names of senders and parcels have 1 to 128 bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cache_of_its_own_has_nobody_to_ship_to() {
        let larder = Larder::builder().build().await.unwrap();
        let kept = ParcelBounds { parcels_max: 10, life: Duration::from_secs(60) };
        let parcel = Parcel { name: "a".into(), bytes: Bytes::from_static(b"1") };
        assert!(!larder.ship("me", std::slice::from_ref(&parcel), kept).await.unwrap());
        assert!(larder.senders().await.unwrap().is_empty() && larder.shipped("me", 0).await.unwrap().is_empty());
        let unnamed = Parcel { name: String::new(), ..parcel.clone() };
        assert_eq!(larder.ship("me", &[unnamed], kept).await.unwrap_err().kind(), ErrorKind::InvalidConfig);
        let large = Parcel { bytes: vec![0; PARCEL_BYTES_MAX + 1].into(), ..parcel };
        assert_eq!(larder.ship("me", &[large], kept).await.unwrap_err().kind(), ErrorKind::InvalidConfig);
        larder.close().await.unwrap();
    }
}
