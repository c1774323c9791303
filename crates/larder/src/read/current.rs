//! What is there of a key, for those who are going to change it.

use super::*;

/// What is there, and since when it has been so.
pub(crate) struct Current<V> {
    /// `None`: nothing that is fresh.
    pub(crate) answer: Option<Answer<V>>,
    /// It reflects every change up to here. A change of the key after it is not known here.
    pub(crate) since: Stamp,
}

impl<V: Value> View<V> {
    /// The fresh entry of a key, from memory or the backing tier. A tier that fails is an error: nothing must be made of not knowing
    /// what is there. Counted as a read, if asked to.
    ///
    /// The stamp is what a compare-and-set rests on. An entry's own is right, whoever raised it: all its names were checked up to
    /// there. Where nothing is there it is a position taken before the look. `latest` will do if the look ended at the tier: what
    /// others appended up to there is in a tier that they share with this instance, which writes entries in one step with the
    /// append, and what this process did is in its own. It will not do where memory alone said that there is nothing: own appends are
    /// ahead of what others appended before them, and this instance may not have heard of those.
    pub(crate) async fn current(&self, key: &[u8], counts: bool) -> Result<Current<V>> {
        let ask = Ask::new(key);
        let failed = |error: Error| if counts { self.failed(error, ask) } else { error };
        self.verified().map_err(failed)?;
        let (latest, applied) = (self.shared.index.latest(), self.shared.index.applied());
        // After the stamps were taken: a put up to there that is not stored yet would be taken for nothing.
        self.shared.turns.arrived(key).await;
        let found = |entry: Arc<Entry<V>>, source| {
            let since = entry.meta.stamp();
            let counted = |entry| self.hit(entry, source, ask).into_answer();
            let answer = if counts { counted(entry) } else { Some(self.answer(entry, source, Freshness::Fresh)) };
            Current { answer, since }
        };
        let (missed, since) = match self.in_memory(key, self.shared.clock.refresh()) {
            Memory::Fresh(entry) => return Ok(found(entry, Source::Memory)),
            Memory::Negative => (None, applied),
            Memory::Aged(_) => (Some(Miss::Expired), applied),
            Memory::Gone(missed) => {
                if let Some(tier) = self.shared.tier.as_ref().filter(|_| self.space.policy.backing && self.worth_a_visit(missed)) {
                    let applied = self.shared.index.applied();
                    let record = self.one_in_time(tier, key).await.map_err(failed)?;
                    let backed = record.and_then(|record| self.admit(key, record, applied)).filter(|backed| !backed.aged);
                    if let Some(Backed { entry, .. }) = backed {
                        return Ok(found(entry, Source::Backing));
                    }
                    if counts {
                        self.space.metrics.count(Count::MissBacking);
                    }
                }
                (Some(missed), latest)
            }
        };
        match missed {
            _ if !counts => {}
            Some(missed) => drop(self.missed(missed, ask)),
            None => self.negative(ask),
        }
        Ok(Current { answer: None, since })
    }
}
