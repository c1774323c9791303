//! One load per key among all machines that share a tier: who gets the lease loads, the others wait for the value.
//!
//! The lease is a courtesy and no lock. It expires, its holder may die, and whoever has waited long enough loads anyway: what
//! keeps a late holder from putting an old value back is the stamp of what it loads, as everywhere.

use std::time::Duration;

use tokio::time::Instant;

use crate::codec::Value;
use crate::fill::Landed;
use crate::view::View;

/// Pauses between looks for the value that somebody else loads.
const LOOK_MIN: Duration = Duration::from_millis(2);
const LOOK_MAX: Duration = Duration::from_millis(50);

/// Whose turn it is.
pub(crate) enum Turn<V> {
    /// To load, with a lease to give back if there is one.
    Load(Option<u64>),
    /// Nobody's any more.
    Landed(Landed<V>),
}

impl<V: Value> View<V> {
    /// Waits for its turn to load, or for the value.
    pub(crate) async fn turn_in_fleet(&self, key: &[u8]) -> Turn<V> {
        let wait = self.space.policy.one_load_in_fleet.filter(|_| self.space.policy.backing);
        let (Some(wait), Some(tier)) = (wait, self.shared.tier.as_ref().filter(|tier| tier.is_shared())) else {
            return Turn::Load(None);
        };
        let (token, until) = (fastrand::u64(..), Instant::now() + wait);
        let mut pause = LOOK_MIN;
        loop {
            match self.in_time(tier.lease(key, token, self.space.policy.load_timeout)).await {
                // Without the tier nobody can be waited for.
                Err(_) => return Turn::Load(None),
                Ok(false) => {}
                Ok(true) => {
                    // The holder before may have ended between the last look and now.
                    return match self.landed_meanwhile(key).await {
                        Some(landed) => {
                            self.give_back(key, token).await;
                            Turn::Landed(landed)
                        }
                        None => Turn::Load(Some(token)),
                    };
                }
            }
            if Instant::now() + pause > until {
                return Turn::Load(None);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_MAX);
            if let Some(landed) = self.landed_meanwhile(key).await {
                return Turn::Landed(landed);
            }
        }
    }

    /// After the load: the value must be where the others look before they can get the lease.
    pub(crate) async fn end_turn(&self, key: &[u8], lease: Option<u64>) {
        let (Some(token), Some(tier)) = (lease, &self.shared.tier) else { return };
        if let Err(error) = self.in_time(tier.flush()).await {
            self.backing_failed(&error);
        }
        self.give_back(key, token).await;
    }

    async fn give_back(&self, key: &[u8], token: u64) {
        let Some(tier) = &self.shared.tier else { return };
        if let Err(error) = self.in_time(tier.release(key, token)).await {
            // It ends by itself.
            self.backing_failed(&error);
        }
    }
}
