//! The cache as one principal may use it: each call is decided before it does anything. What it may not read is, in lists, as if it were
//! not there; and a refusal says nothing of what there is.
//!
//! The handle is for programs that act for others. It is no fence against the code that holds it, which may have the cache itself.

use std::fmt;

use crate::access::{Operation, Principal, Target};
use crate::cache::Larder;
use crate::codec::Value;
use crate::error::{Error, ErrorKind, Result};
use crate::events::{Emitted, Event};
use crate::explain::Explanation;
use crate::health::Health;
use crate::impact::Impact;
use crate::lineage::Moved;
use crate::name::Names;
use crate::origin::Version;
use crate::pattern::Pattern;
use crate::position::Receipt;
use crate::stats::Stats;

mod namespace;
mod raw;

pub use namespace::GuardedNamespace;
pub use raw::GuardedRaw;

/// The cache as one principal may use it: see [`Larder::as_principal`].
#[derive(Clone)]
pub struct Guarded {
    larder: Larder,
    who: Principal,
}

impl Larder {
    /// The cache as somebody may use it. What they may not do fails with [`ErrorKind::Forbidden`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> larder::Result<()> {
    /// use larder::access::Principal;
    /// use larder::{ErrorKind, Larder};
    /// let larder = Larder::builder().build().await?;
    /// let ada = Principal::new("ada", &[], &["allow read, write on features:**".parse()?])?;
    /// let guarded = larder.as_principal(&ada);
    /// guarded.namespace::<f64>("features")?.put("AAPL", 0.7).await?;
    /// assert_eq!(guarded.raw().lookup("prices:AAPL").await.unwrap_err().kind(), ErrorKind::Forbidden);
    /// # Ok(()) }
    /// ```
    pub fn as_principal(&self, who: &Principal) -> Guarded {
        Guarded { larder: self.clone(), who: who.clone() }
    }
}

impl Guarded {
    /// Who it is for.
    pub fn principal(&self) -> &Principal {
        &self.who
    }

    /// As [`Larder::namespace`], where something in it may be read or written: the first call decides the type for all.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`]; otherwise as [`Larder::namespace`].
    pub fn namespace<V: Value>(&self, name: &str) -> Result<GuardedNamespace<V>> {
        crate::key::check_namespace(name)?;
        let all = Pattern::namespace(name);
        if ![Operation::Read, Operation::Write].iter().any(|operation| self.who.rights().allows_some_of(*operation, &all)) {
            let message = format!("{} may neither read nor write in the namespace \"{name}\"", self.who.name());
            return Err(Error::new(ErrorKind::Forbidden, message));
        }
        Ok(GuardedNamespace::new(self.larder.namespace(name)?, self.who.clone()))
    }

    /// As [`Larder::raw`].
    pub fn raw(&self) -> GuardedRaw {
        GuardedRaw::new(self.larder.raw(), self.who.clone())
    }

    /// As [`Larder::invalidate`]: with the right over all that each of the names may touch.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`], and nothing was done; otherwise as [`Larder::invalidate`].
    pub async fn invalidate(&self, names: Names) -> Result<Receipt> {
        names.permitted_to(&self.who)?;
        self.larder.invalidate(names).await
    }

    /// As [`Larder::impact`], for who may invalidate the names, without the namespaces in which not all may be read.
    ///
    /// # Errors
    /// As [`invalidate`](Self::invalidate) and [`Larder::impact`].
    pub async fn impact(&self, names: Names) -> Result<Impact> {
        names.permitted_to(&self.who)?;
        Ok(self.seen(self.larder.impact(names).await?))
    }

    fn seen(&self, mut impact: Impact) -> Impact {
        impact.permitted_to(&self.who);
        impact
    }

    /// As [`Larder::emit`]. What the event invalidates is what the rules say, which is for those to answer for who wrote them.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`]; otherwise as [`Larder::emit`].
    pub async fn emit(&self, event: Event) -> Result<Emitted> {
        self.who.check(Operation::Emit, Target::Server)?;
        self.larder.emit(event).await
    }

    /// As [`Larder::rehearse`], without the namespaces in which not all may be read.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`]; otherwise as [`Larder::rehearse`].
    pub async fn rehearse(&self, event: &Event) -> Result<(Emitted, Impact)> {
        self.who.check(Operation::Emit, Target::Server)?;
        let (emitted, impact) = self.larder.rehearse(event).await?;
        Ok((emitted, self.seen(impact)))
    }

    /// As [`Larder::explain`], where all keys that the explanation names may be read.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`]; otherwise as [`Larder::explain`].
    pub async fn explain(&self, key: impl AsRef<[u8]>) -> Result<Explanation> {
        self.who.check(Operation::Read, Target::Key(key.as_ref()))?;
        let explanation = self.larder.explain(key).await?;
        explanation.permitted_to(&self.who)?;
        Ok(explanation)
    }

    /// As [`Larder::moved`], for who may invalidate the source's name: what was computed from it said itself that it was.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`]; otherwise as [`Larder::moved`].
    pub async fn moved(&self, source: impl AsRef<[u8]>, version: impl Into<Version>) -> Result<Moved> {
        self.who.check(Operation::Invalidate, Target::Key(source.as_ref()))?;
        self.larder.moved(source, version).await
    }

    /// As [`Larder::version_of`].
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`]; otherwise as [`Larder::version_of`].
    pub async fn version_of(&self, source: impl AsRef<[u8]>) -> Result<Option<Version>> {
        self.who.check(Operation::Read, Target::Key(source.as_ref()))?;
        self.larder.version_of(source).await
    }

    /// As [`Larder::stats`].
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`].
    pub fn stats(&self) -> Result<Stats> {
        self.who.check(Operation::Metrics, Target::Server)?;
        Ok(self.larder.stats())
    }

    /// As [`Larder::health`].
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`].
    pub fn health(&self) -> Result<Health> {
        self.who.check(Operation::Metrics, Target::Server)?;
        Ok(self.larder.health())
    }
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded").field("principal", &self.who).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
