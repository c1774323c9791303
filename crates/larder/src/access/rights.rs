//! What one principal may do, made ready to be asked: the one function that decides.

use std::fmt;
use std::sync::Arc;

use super::Role;
use super::grant::{Effect, Grant};
use super::operation::{Operation, Operations};
use crate::pattern::Pattern;

/// What an operation would touch.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// A whole key.
    Key(&'a [u8]),
    /// A tag that is put on an entry with this key.
    Tagged {
        /// The key.
        key: &'a [u8],
        /// The tag.
        tag: &'a [u8],
    },
    /// A tag, with all entries that have it.
    Tag(&'a [u8]),
    /// All keys that match.
    Pattern(&'a Pattern),
    /// All that there is.
    Everything,
    /// The server, and no key: what `emit`, `admin` and `metrics` are done to.
    Server,
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Key(_) => write!(f, "this key"),
            Target::Tagged { tag, .. } => write!(f, "this key with the tag \"{}\"", tag.escape_ascii()),
            Target::Tag(tag) => write!(f, "all that has the tag \"{}\"", tag.escape_ascii()),
            Target::Pattern(pattern) => write!(f, "all that matches \"{pattern}\""),
            Target::Everything => write!(f, "everything"),
            Target::Server => write!(f, "this server"),
        }
    }
}

/// Where a principal has a grant from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A role of this name.
    Role(Arc<str>),
    /// Its own.
    Own,
}

/// A decision, and what it rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// Whether it may be done.
    pub allowed: bool,
    /// The grant that allows or denies it, and where that comes from; `None`: no grant allows it.
    pub by: Option<(&'a Grant, &'a Source)>,
}

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// What may be done with whatever there is: nothing more is looked at for these.
    everywhere: Operations,
    /// What any grant allows with anything.
    somewhere: Operations,
    /// Those that deny first.
    grants: Vec<(Grant, Source)>,
}

impl Rights {
    pub(super) fn of(roles: &[&Role], own: &[Grant]) -> Self {
        let of_roles = roles.iter().flat_map(|role| role.grants().iter().map(|grant| (grant.clone(), Source::Role(role.name.clone()))));
        let mut grants: Vec<(Grant, Source)> = of_roles.chain(own.iter().map(|grant| (grant.clone(), Source::Own))).collect();
        grants.sort_by_key(|(grant, _)| grant.effect() == Effect::Allow);
        let those = |what: fn(&Grant) -> bool| {
            let found = grants.iter().filter(|(grant, _)| what(grant)).map(|(grant, _)| grant.operations());
            found.fold(Operations::default(), Operations::and)
        };
        let denied = those(|grant| grant.effect() == Effect::Deny);
        let allowed = those(|grant| grant.effect() == Effect::Allow);
        let everywhere = those(|grant| grant.effect() == Effect::Allow && grant.is_everywhere()).without(denied);
        let wholly_denied = those(|grant| grant.effect() == Effect::Deny && grant.is_everywhere());
        Rights { everywhere, somewhere: allowed.without(wholly_denied), grants }
    }

    /// Whether an operation may be done with whatever there is, so that no key needs to be looked at.
    #[inline]
    pub fn allows_everywhere(&self, operation: Operation) -> bool {
        self.everywhere.has(operation)
    }

    /// Whether there may be anything at all that the operation may be done with.
    pub fn allows_somewhere(&self, operation: Operation) -> bool {
        self.somewhere.has(operation)
    }

    /// Whether there may be a key that matches the pattern, and that the operation may be done with.
    pub fn allows_some_of(&self, operation: Operation, pattern: &Pattern) -> bool {
        let allows = |grant: &Grant| grant.effect() == Effect::Allow && grant.operations().has(operation);
        self.allows_somewhere(operation) && self.grants.iter().any(|(grant, _)| allows(grant) && !grant.keys().is_apart_from(pattern))
    }

    /// Whether an operation may be done.
    #[inline]
    pub fn allows(&self, operation: Operation, target: Target<'_>) -> bool {
        self.everywhere.has(operation) || self.decide(operation, target).allowed
    }

    /// Decides, and says by which grant. The only place where that is done.
    pub fn decide(&self, operation: Operation, target: Target<'_>) -> Decision<'_> {
        // Those that deny come first, so the first that is about it decides.
        let by = self.grants.iter().find(|(grant, _)| {
            grant.operations().has(operation)
                && match grant.effect() {
                    Effect::Deny => may_meet(grant, target),
                    Effect::Allow => takes_in(grant, operation, target),
                }
        });
        Decision { allowed: by.is_some_and(|(grant, _)| grant.effect() == Effect::Allow), by: by.map(|(grant, source)| (grant, source)) }
    }

    /// All grants, those that deny first, and where each comes from.
    pub fn grants(&self) -> impl Iterator<Item = (&Grant, &Source)> {
        self.grants.iter().map(|(grant, source)| (grant, source))
    }
}

/// Whether a grant surely is over all that would be touched.
fn takes_in(grant: &Grant, operation: Operation, target: Target<'_>) -> bool {
    // One that lets some tags be invalidated lets nothing else be; one that lets keys be written says which tags they may have.
    let is_about_keys = operation != Operation::Invalidate || grant.tags().is_everything();
    match target {
        Target::Key(key) => is_about_keys && grant.keys().matches(key),
        Target::Tagged { key, tag } => grant.keys().matches(key) && grant.tags().matches(tag),
        // An entry of any key may have it.
        Target::Tag(tag) => grant.keys().is_everything() && grant.tags().matches(tag),
        Target::Pattern(pattern) => is_about_keys && grant.keys().covers(pattern),
        Target::Everything | Target::Server => grant.is_everywhere(),
    }
}

/// Whether a grant may be about something of what would be touched. One that names tags is about the use of those and of no others.
fn may_meet(grant: &Grant, target: Target<'_>) -> bool {
    let is_about_keys = grant.tags().is_everything();
    match target {
        Target::Key(key) => is_about_keys && grant.keys().matches(key),
        Target::Tagged { key, tag } => grant.keys().matches(key) && grant.tags().matches(tag),
        Target::Tag(tag) => grant.tags().matches(tag),
        Target::Pattern(pattern) => is_about_keys && !grant.keys().is_apart_from(pattern),
        // Whatever keys it denies are among all of them.
        Target::Everything | Target::Server => is_about_keys,
    }
}
