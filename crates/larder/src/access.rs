//! Who may do what with which keys and tags: principals, roles, grants, and the one function that decides.
//!
//! ```text
//!   Grant      allow | deny  x  operations  x  key pattern  x  tag pattern        "allow read, write on features:**"
//!   Role       a name for grants
//!   Policy     roles and principals -> a Principal, with its Rights made ready
//!   Rights     decide(operation, target) -> allowed or not, and which grant said so
//! ```
//!
//! The order of grants means nothing: what any denies is denied, else what any allows is allowed, else it is denied. A right is needed
//! over *all* that a call may touch, so a pattern has to be covered by one grant and to meet none that denies; where that cannot be
//! proven, the answer is no. What a principal is follows from who proved to be it, never from what a request says of itself.
//!
//! Values and decisions alone: who somebody is, is found out elsewhere.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};

mod grant;
mod operation;
mod rights;

pub use grant::{Effect, Grant};
pub use operation::{Operation, Operations};
pub use rights::{Decision, Rights, Source, Target};

/// The longest name of a principal or a role.
const NAME_LEN_MAX: usize = 64;

/// The most grants of one role or principal, and the most roles of a principal: a decision looks at all of them.
pub const GRANTS_MAX: usize = 256;

/// Checks the name of a principal or a role: letters and digits of ASCII, and `_ - . @`, so that it means nothing in a pattern, a line
/// of a log, or a list of words.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`].
pub fn check_name(name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'@');
    if name.is_empty() || name.len() > NAME_LEN_MAX || !name.bytes().all(plain) {
        let shown: String = name.chars().take(NAME_LEN_MAX).collect();
        let message = format!(
            "the name of a principal or role is 1 to {NAME_LEN_MAX} letters, digits, '_', '-', '.' and '@', not \"{}\"",
            shown.escape_debug()
        );
        return Err(Error::new(ErrorKind::InvalidConfig, message));
    }
    Ok(())
}

/// A name for grants.
///
/// ```
/// use larder::access::{Operation, Role};
/// let role = Role::built_in("service").expect("there is one");
/// assert_eq!(role.grants()[0].to_string(), "allow read, write on **");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    name: Arc<str>,
    grants: Vec<Grant>,
}

/// The roles that there are without anybody's doing. `admin`, `service` and `client` are those of the system that larder takes the place
/// of, with the same rights to read, write, delete and administer; what that one did not know, `admin` may, and the others may not.
const BUILT_IN: [(&str, &[Operation]); 6] = [
    ("admin", &Operation::ALL),
    ("service", &[Operation::Read, Operation::Write]),
    ("client", &[Operation::Read]),
    ("invalidator", &[Operation::Invalidate, Operation::Emit]),
    ("operator", &[Operation::Read, Operation::Delete, Operation::Invalidate, Operation::Emit, Operation::Metrics]),
    ("viewer", &[Operation::Metrics]),
];

impl Role {
    /// A role of one's own.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for a name that is none or is a built-in role's, and for too many grants.
    pub fn new(name: &str, grants: Vec<Grant>) -> Result<Self> {
        check_name(name)?;
        check_count(name, grants.len())?;
        if Role::built_in(name).is_some() {
            return Err(Error::new(ErrorKind::InvalidConfig, format!("the role \"{name}\" is built in, and stays as it is")));
        }
        Ok(Role { name: name.into(), grants })
    }

    /// One of those that are built in.
    pub fn built_in(name: &str) -> Option<Self> {
        let (name, operations) = BUILT_IN.iter().find(|(built_in, _)| *built_in == name)?;
        Some(Role { name: (*name).into(), grants: vec![Grant::everywhere(operations.iter().copied().collect())] })
    }

    /// The names of those that are built in.
    pub fn built_in_names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it allows and denies.
    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }
}

fn check_count(name: &str, count: usize) -> Result<()> {
    if count > GRANTS_MAX {
        return Err(Error::new(ErrorKind::InvalidConfig, format!("\"{name}\" has {count} grants or roles, and the most is {GRANTS_MAX}")));
    }
    Ok(())
}

/// Somebody, with the rights that they have. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Principal(Arc<Inner>);

#[derive(PartialEq, Eq)]
struct Inner {
    name: Box<str>,
    roles: Vec<String>,
    rights: Rights,
}

impl Principal {
    /// Somebody with these roles, and grants of their own.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for a name that is none, and for too many roles or grants.
    pub fn new(name: &str, roles: &[&Role], grants: &[Grant]) -> Result<Self> {
        check_name(name)?;
        check_count(name, grants.len().max(roles.len()))?;
        let rights = Rights::of(roles, grants);
        let roles = roles.iter().map(|role| role.name().to_owned()).collect();
        Ok(Principal(Arc::new(Inner { name: name.into(), roles, rights })))
    }

    /// What they are called.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The names of their roles.
    pub fn roles(&self) -> &[String] {
        &self.0.roles
    }

    /// What they may do.
    #[inline]
    pub fn rights(&self) -> &Rights {
        &self.0.rights
    }

    /// Refuses what they may not do, in words that say nothing of what there is.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`].
    #[inline]
    pub fn check(&self, operation: Operation, target: Target<'_>) -> Result<()> {
        if self.rights().allows(operation, target) { Ok(()) } else { Err(self.refusal(operation, target)) }
    }

    #[cold]
    fn refusal(&self, operation: Operation, target: Target<'_>) -> Error {
        let error = Error::new(ErrorKind::Forbidden, format!("{} may not {} {target}", self.name(), operation.verb()));
        match target {
            Target::Key(key) | Target::Tagged { key, .. } => error.during(operation.name(), key),
            _ => error,
        }
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal").field("name", &self.name()).field("roles", &self.roles()).finish_non_exhaustive()
    }
}

/// All roles and principals.
///
/// ```
/// use larder::access::{Operation, Policy, Role, Target};
/// # fn main() -> larder::Result<()> {
/// let quants = Role::new("quants", vec!["allow read on features:**".parse()?, "deny read on features:secret:**".parse()?])?;
/// let policy = Policy::new().role(quants)?.principal("ada", ["quants"], vec![])?;
/// let ada = policy.get("ada").expect("she was just named");
/// assert!(ada.check(Operation::Read, Target::Key(b"features:AAPL")).is_ok());
/// assert!(ada.check(Operation::Read, Target::Key(b"features:secret:x")).is_err());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Policy {
    roles: BTreeMap<String, Role>,
    principals: BTreeMap<String, Principal>,
}

impl Policy {
    /// The built-in roles, and nobody.
    pub fn new() -> Self {
        Policy::default()
    }

    /// Adds a role.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] where there is one of this name.
    pub fn role(mut self, role: Role) -> Result<Self> {
        if self.role_of(role.name()).is_some() {
            return Err(Error::new(ErrorKind::InvalidConfig, format!("there are two roles \"{}\"", role.name())));
        }
        self.roles.insert(role.name().to_owned(), role);
        Ok(self)
    }

    /// Adds a principal.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for a name that is none or is taken, and for roles that there are not.
    pub fn principal<'a>(mut self, name: &str, roles: impl IntoIterator<Item = &'a str>, grants: Vec<Grant>) -> Result<Self> {
        let unknown = |role: &str| {
            Error::new(ErrorKind::InvalidConfig, format!("\"{name}\" has the role \"{}\", which there is not", role.escape_debug()))
        };
        let roles: Vec<Role> = roles.into_iter().map(|role| self.role_of(role).ok_or_else(|| unknown(role))).collect::<Result<_>>()?;
        let principal = Principal::new(name, &roles.iter().collect::<Vec<_>>(), &grants)?;
        if self.principals.insert(name.to_owned(), principal).is_some() {
            return Err(Error::new(ErrorKind::InvalidConfig, format!("there are two principals \"{name}\"")));
        }
        Ok(self)
    }

    /// A role by its name, a built-in one as well.
    pub fn role_of(&self, name: &str) -> Option<Role> {
        self.roles.get(name).cloned().or_else(|| Role::built_in(name))
    }

    /// A principal by its name.
    pub fn get(&self, name: &str) -> Option<&Principal> {
        self.principals.get(name)
    }

    /// All principals, by name.
    pub fn principals(&self) -> impl Iterator<Item = &Principal> {
        self.principals.values()
    }

    /// All roles but the built-in ones, by name.
    pub fn roles(&self) -> impl Iterator<Item = &Role> {
        self.roles.values()
    }
}

#[cfg(test)]
mod tests;
