//! The one door: who somebody is, for all ways into the server alike. What they may do then is `larder::access`'s to decide.
//!
//! ```text
//!   HTTP Bearer ──┐
//!   RESP AUTH ────┼──> token ─────> digest, compared ────┐
//!                 │                                      ├──> Identity: a principal, how it was proven, until when
//!   a login ──────┴──> password ──> Argon2id, compared ──┤
//!   a cookie ────────> session ───> digest, compared ────┤
//!   mutual TLS ──────> a name in a certificate ──────────┘
//! ```
//!
//! What is known is a value that is replaced as a whole (`State`): made of the configuration and of the book, which is changed while the
//! server runs. Each change has a number; who holds an identity across requests, such as a connection, looks whether the number is
//! still the same, and if it is not, has the identity [renewed](Door::renew): with the rights of now, or not at all.
//!
//! An unknown name costs what a wrong secret costs, and both are told alike.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use larder::Clock;
use larder::access::{Grant, Policy, Role};
use tokio::sync::{Mutex, Semaphore, watch};

pub mod allowance;
pub mod backoff;
pub mod book;
mod identity;
pub mod password;
pub mod session;
pub mod store;
pub mod token;

pub use identity::{Identity, Proof};

use crate::tls::{PeerName, PeerNames};
use allowance::{Allowances, Usages};
use backoff::Backoff;
use book::{Book, Secret, Unchanged};
use password::Hashed;
use session::Sessions;
use store::Store;
use token::{Digest, Token};

/// Passwords that are computed at once: each takes tens of milliseconds of a core and 19 MiB.
const HASHED_AT_ONCE: usize = 2;

/// Passwords that wait to be computed; more are told to come again.
const HASHED_WAITING: usize = 64;

/// How often it is written down which tokens were used, if any were.
const USED_WRITTEN_EVERY: Duration = Duration::from_secs(60);

/// What the configuration says of access.
#[derive(Clone, Debug, Default)]
pub struct AccessSettings {
    /// Whether anybody has to say who they are. Default: no, and then everybody may do everything.
    pub enabled: bool,
    /// Where the book is kept; nowhere: what is in the configuration is all there is.
    pub store: Option<Store>,
    /// Roles beside those that are built in.
    pub roles: Vec<Role>,
    /// Principals beside those in the book.
    pub principals: Vec<Configured>,
    /// How long a person's session lasts.
    pub session: Duration,
    /// How much each may ask for.
    pub allowances: Allowances,
}

/// A principal of the configuration.
#[derive(Clone, Debug)]
pub struct Configured {
    /// What it is called.
    pub name: String,
    /// The names of its roles.
    pub roles: Vec<String>,
    /// Grants of its own.
    pub grants: Vec<Grant>,
    /// The id and what is kept of its token, if it has one here.
    pub token: Option<(String, Digest)>,
    /// Its password, if it has one here.
    pub password: Option<Hashed>,
    /// The names in certificates that are its own.
    pub certificates: Vec<PeerName>,
}

impl Configured {
    /// Whether nothing here lets it in.
    pub fn has_no_proof(&self) -> bool {
        self.token.is_none() && self.password.is_none() && self.certificates.is_empty()
    }
}

/// See the head of this file.
pub struct Door {
    settings: AccessSettings,
    clock: Clock,
    state: ArcSwap<State>,
    /// Its number; sent when it has changed.
    generation: AtomicU64,
    changed: watch::Sender<u64>,
    /// Held by who changes the book, in memory and on disk.
    changing: Arc<Mutex<()>>,
    sessions: Sessions,
    hashing: Arc<Semaphore>,
    hashing_waits: AtomicUsize,
    used: std::sync::atomic::AtomicBool,
    /// Attempts that were refused.
    refused: AtomicU64,
    backoff: Backoff,
    usages: Usages,
    /// By which it is decided how long it takes to find that a name is nobody's.
    chance: RandomState,
    /// Held for as long as the door is.
    _lock: Option<store::Lock>,
}

/// What is known now.
#[derive(Debug)]
struct State {
    policy: Policy,
    book: Book,
    tokens: HashMap<String, Known>,
    passwords: HashMap<String, Hashed>,
}

/// A token that is known.
#[derive(Debug)]
struct Known {
    principal: String,
    secrets: Vec<Secret>,
    /// When it was used last, in milliseconds since 1970; 0: not yet.
    used_ms: Arc<AtomicU64>,
}

impl State {
    /// From the configuration and the book. The tokens that were known before keep when they were used.
    fn of(settings: &AccessSettings, book: Book, before: Option<&State>) -> Result<Self, String> {
        let told = |error: larder::Error| error.message().to_owned();
        let mut policy = Policy::new();
        for role in &settings.roles {
            policy = policy.role(role.clone()).map_err(told)?;
        }
        for Configured { name, roles, grants, .. } in &settings.principals {
            policy = policy.principal(name, roles.iter().map(String::as_str), grants.clone()).map_err(told)?;
        }
        let mut passwords: HashMap<String, Hashed> = HashMap::new();
        for (name, person) in &book.principals {
            if policy.get(name).is_some() {
                tracing::warn!(principal = name, "a principal of the book is in the configuration, which is what counts");
                continue;
            }
            let with = policy.clone().principal(name, person.roles.iter().map(String::as_str), person.grants.clone());
            match with {
                Ok(with) => policy = with,
                // Without the role it might be allowed what the role denies, so it is allowed nothing.
                Err(error) => {
                    tracing::warn!(principal = name, %error, "a principal of the book cannot be let in");
                    continue;
                }
            }
            passwords.extend(person.password.clone().map(|password| (name.clone(), password)));
        }
        let used = |id: &str, written: Option<u64>| {
            let known = before.and_then(|before| before.tokens.get(id));
            known.map_or_else(|| Arc::new(written.unwrap_or(0).into()), |known| known.used_ms.clone())
        };
        let known = |id: &String, principal: &String, secrets: Vec<Secret>, written| {
            (id.clone(), Known { principal: principal.clone(), secrets, used_ms: used(id, written) })
        };
        let mut tokens: HashMap<String, Known> =
            book.tokens.iter().map(|(id, token)| known(id, &token.principal, token.secrets.clone(), token.last_used_ms)).collect();
        for Configured { name, token, password, .. } in &settings.principals {
            if let Some((id, digest)) = token {
                let (id, known) = known(id, name, vec![Secret { digest: *digest, created_ms: 0, expires_ms: None }], None);
                tokens.insert(id, known);
            }
            passwords.extend(password.clone().map(|password| (name.clone(), password)));
        }
        Ok(State { policy, book, tokens, passwords })
    }
}

/// Who may do what by the configuration and a book, for who looks at them without a server.
///
/// # Errors
/// What is wrong with them.
pub fn policy_of(settings: &AccessSettings, book: &Book) -> Result<Policy, String> {
    State::of(settings, book.clone(), None).map(|state| state.policy)
}

/// Why the door cannot be had.
#[derive(Debug)]
pub struct DoorError(pub String);

impl std::fmt::Display for DoorError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DoorError {}

/// Why somebody was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotLetIn {
    /// That is nobody, or not their secret. Which of the two is not said.
    Wrong,
    /// Too many ask at once.
    Busy,
}

impl Door {
    /// A door that stands open: nobody has to say who they are.
    pub fn open() -> Arc<Self> {
        let state = State { policy: Policy::new(), book: Book::default(), tokens: HashMap::new(), passwords: HashMap::new() };
        Self::with(AccessSettings::default(), Clock::system(), state, None)
    }

    /// The door that the configuration asks for. The book is this process's from here on, for as long as the door is.
    ///
    /// # Errors
    /// When the book cannot be used.
    pub fn of(settings: AccessSettings, clock: Clock) -> Result<Arc<Self>, DoorError> {
        if !settings.enabled {
            return Ok(Self::open());
        }
        let (book, lock) = match &settings.store {
            Some(store) => {
                let lock = store.lock().map_err(DoorError)?;
                (store.read().map_err(DoorError)?, Some(lock))
            }
            None => (Book::default(), None),
        };
        let state = State::of(&settings, book, None).map_err(DoorError)?;
        Ok(Self::with(settings, clock, state, lock))
    }

    fn with(settings: AccessSettings, clock: Clock, state: State, lock: Option<store::Lock>) -> Arc<Self> {
        Arc::new(Door {
            usages: Usages::new(settings.allowances.clone()),
            settings,
            clock,
            state: ArcSwap::from_pointee(state),
            generation: 1.into(),
            changed: watch::Sender::new(1),
            changing: Arc::default(),
            sessions: Sessions::default(),
            hashing: Arc::new(Semaphore::new(HASHED_AT_ONCE)),
            hashing_waits: 0.into(),
            used: false.into(),
            refused: 0.into(),
            backoff: Backoff::default(),
            chance: RandomState::new(),
            _lock: lock,
        })
    }

    /// Whether anybody has to say who they are.
    #[inline]
    pub fn is_guarded(&self) -> bool {
        self.settings.enabled
    }

    /// The number of what is known now.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The time, in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.clock.refresh()
    }

    /// How often somebody was not let in.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Who has tried wrong secrets, over HTTP and RESP together.
    pub fn backoff(&self) -> &Backoff {
        &self.backoff
    }

    /// What each has used of what they may ask for, over HTTP and RESP together.
    pub fn usages(&self) -> &Usages {
        &self.usages
    }

    /// The sessions of people.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Who a token is: a digest is computed and two are compared, whether there is such a token or not.
    ///
    /// # Errors
    /// [`NotLetIn::Wrong`].
    pub fn by_token(&self, token: &Token) -> Result<Arc<Identity>, NotLetIn> {
        let (now, state, digest) = (self.now_ms(), self.state.load(), token.digest());
        let known = state.tokens.get(token.id());
        let nobody = Secret { digest: Digest::nobodys(), created_ms: 0, expires_ms: Some(0) };
        let secrets = known.map_or(&[][..], |known| &known.secrets);
        let mut found = None;
        for at in 0..2 {
            let secret = secrets.get(at).unwrap_or(&nobody);
            if secret.digest.is(&digest) && secret.is_live(now) {
                found = Some(secret);
            }
        }
        let identity = found.zip(known).and_then(|(secret, known)| {
            let principal = state.policy.get(&known.principal).cloned()?;
            known.used_ms.fetch_max(now, Ordering::Relaxed);
            self.used.store(true, Ordering::Relaxed);
            let proof = Proof::Token { id: token.id().into(), digest };
            Some(Arc::new(Identity { principal, proof, expires_ms: secret.expires_ms }))
        });
        identity.ok_or_else(|| self.wrong())
    }

    fn wrong(&self) -> NotLetIn {
        self.refused.fetch_add(1, Ordering::Relaxed);
        NotLetIn::Wrong
    }

    /// Whose certificate a client showed: that of the one principal which is called by one of the names in it. A certificate with the names
    /// of two is nobody's.
    pub fn by_certificate(&self, names: &PeerNames) -> Option<Arc<Identity>> {
        let mut own = names.iter().filter_map(|name| Some((self.called(name)?, name)));
        let (principal, name) = own.next()?;
        if own.any(|(other, _)| other != principal) {
            tracing::warn!(certificate = %name, "a certificate has names of several principals, and is taken for nobody's");
            return None;
        }
        let principal = self.state.load().policy.get(principal).cloned()?;
        Some(Arc::new(Identity { principal, proof: Proof::Certificate(name.clone()), expires_ms: None }))
    }

    /// The principal that a name in a certificate is of.
    fn called(&self, name: &PeerName) -> Option<&str> {
        let called = self.settings.principals.iter().find(|principal| principal.certificates.contains(name));
        called.map(|principal| &*principal.name)
    }

    /// Who has a password. It is computed away from the threads that serve, a few at a time.
    ///
    /// # Errors
    /// [`NotLetIn`].
    pub async fn by_password(&self, name: &str, password: &[u8]) -> Result<Arc<Identity>, NotLetIn> {
        if password.len() > *password::PASSWORD_LEN.end() {
            return Err(self.wrong());
        }
        let (hashed, is_somebody) = self.compared(name);
        let (compared, given) = (hashed.clone(), password.to_vec());
        let is_right = self.apart(move || compared.is(&given)).await?;
        // Looked for again: it may have been changed while this was computed.
        let state = self.state.load();
        let is_still = state.passwords.get(name) == Some(&hashed);
        let principal = state.policy.get(name).cloned().filter(|_| is_right && is_somebody && is_still);
        let principal = principal.ok_or_else(|| self.wrong())?;
        Ok(Arc::new(Identity { principal, proof: Proof::Password(hashed), expires_ms: None }))
    }

    /// What a password that is given for a name is compared with, and whether there is somebody of that name who has one.
    ///
    /// Passwords of the configuration may take longer than ours. So nobody's takes as long as that of somebody, and each name has its own
    /// somebody, chosen by chance that is drawn when the server starts: names that take long are names of people as often as others are.
    fn compared(&self, name: &str) -> (Hashed, bool) {
        let state = self.state.load();
        if let Some(hashed) = state.passwords.get(name) {
            return (hashed.clone(), true);
        }
        // Of all, the one that is least when mixed with the name: who comes or goes changes it for few names.
        let like = state.passwords.iter().min_by_key(|(other, _)| self.chance.hash_one((name, other)));
        (like.map_or_else(Hashed::nobodys, |(_, like)| Hashed::nobodys_like(like)), false)
    }

    /// What is kept of a new password.
    ///
    /// # Errors
    /// [`NotLetIn::Busy`], and where the system gives no random bytes.
    pub async fn hash(&self, password: Vec<u8>) -> Result<Hashed, Unchanged> {
        let hashed = self.apart(move || Hashed::of(&password)).await;
        Ok(hashed.map_err(|_| Unchanged::Invalid("too many passwords are computed just now; come again".to_owned()))??)
    }

    async fn apart<T: Send + 'static>(&self, compute: impl FnOnce() -> T + Send + 'static) -> Result<T, NotLetIn> {
        struct Waits<'a>(&'a AtomicUsize);
        impl Drop for Waits<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let before = self.hashing_waits.fetch_add(1, Ordering::Relaxed);
        let _waits = Waits(&self.hashing_waits);
        if before >= HASHED_WAITING {
            return Err(NotLetIn::Busy);
        }
        let turn = self.hashing.clone().acquire_owned().await.map_err(|_| NotLetIn::Busy)?;
        // The turn goes along: who stops waiting does not let another begin while this is still being computed.
        let computing = tokio::task::spawn_blocking(move || {
            let computed = compute();
            drop(turn);
            computed
        });
        computing.await.map_err(|_| NotLetIn::Busy)
    }

    /// What an identity is now: with the rights of now, if what it was proven with still holds.
    pub fn renew(&self, identity: &Identity) -> Option<Arc<Identity>> {
        let (now, state) = (self.now_ms(), self.state.load());
        let name = identity.principal.name();
        let expires_ms = match &identity.proof {
            Proof::Token { id, digest } => {
                let known = state.tokens.get(&**id).filter(|known| known.principal == name)?;
                known.secrets.iter().find(|secret| secret.digest.is(digest) && secret.is_live(now))?.expires_ms
            }
            Proof::Password(hashed) => {
                state.passwords.get(name).filter(|known| *known == hashed)?;
                identity.expires_ms
            }
            Proof::Certificate(of) => {
                self.called(of).filter(|called| *called == name)?;
                None
            }
            Proof::Session { session, hashed } => {
                let at = self.sessions.expires_ms(session, now)?;
                state.passwords.get(name).filter(|known| *known == hashed)?;
                Some(at)
            }
        };
        let principal = state.policy.get(name).cloned()?;
        Some(Arc::new(Identity { principal, proof: identity.proof.clone(), expires_ms }))
    }

    /// Ends when an identity does not hold any more, or is not what it has to be, or can read less than before.
    pub async fn ended(&self, identity: &Identity, is_enough: impl Fn(&Identity) -> bool) {
        let mut changed = self.changed.subscribe();
        let reads_as_before = |now: &Identity| now.reads_all() || !identity.reads_all();
        while self.renew(identity).is_some_and(|now| is_enough(&now) && reads_as_before(&now)) {
            tokio::select! {
                told = changed.changed() => if told.is_err() { return },
                // Times pass without anybody's telling.
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
            }
        }
    }

    /// A look at the book and at the policy in force.
    pub fn look<T>(&self, look: impl FnOnce(&Book, &Policy) -> T) -> T {
        let state = self.state.load();
        look(&state.book, &state.policy)
    }

    /// Whose session a cookie is of, and the word for what changes something.
    ///
    /// # Errors
    /// [`NotLetIn::Wrong`].
    pub fn by_cookie(&self, secret: &[u8]) -> Result<(Arc<Identity>, String), NotLetIn> {
        let state = self.state.load();
        let (identity, word) =
            self.sessions.find(secret, self.now_ms(), |name| state.policy.get(name).cloned()).ok_or_else(|| self.wrong())?;
        let identity = self.renew(&identity).ok_or_else(|| self.wrong())?;
        Ok((identity, word))
    }

    /// When each token was used last, by its id; 0: not since the start.
    pub fn tokens_used(&self) -> HashMap<String, u64> {
        let state = self.state.load();
        state.tokens.iter().map(|(id, known)| (id.clone(), known.used_ms.load(Ordering::Relaxed))).collect()
    }

    /// Changes the book: on the disk first, then in force. It is done to its end even if the caller stops waiting.
    ///
    /// # Errors
    /// Why it was not changed.
    pub async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Book, &Policy) -> Result<T, Unchanged> + Send + 'static,
    ) -> Result<T, Unchanged> {
        let door = self.clone();
        let changing = tokio::spawn(async move {
            let _turn = door.changing.clone().lock_owned().await;
            let before = door.state.load_full();
            let mut book = door.book_of(&before);
            let store = door.settings.store.clone().ok_or_else(no_store)?;
            let outcome = change(&mut book, &before.policy)?;
            let state = State::of(&door.settings, book.clone(), Some(&before)).map_err(Unchanged::Invalid)?;
            for (name, person) in book.principals.iter().filter(|(name, person)| before.book.principals.get(*name) != Some(person)) {
                if door.settings.principals.iter().any(|configured| configured.name == *name) {
                    return Err(Unchanged::Invalid(format!("\"{name}\" stands in the configuration, and is changed there")));
                }
                if let Some(role) = person.roles.iter().find(|role| state.policy.role_of(role).is_none()) {
                    return Err(Unchanged::Unknown(format!("role \"{}\"", role.escape_debug())));
                }
                if state.policy.get(name).is_none() {
                    return Err(Unchanged::Invalid(format!("\"{name}\" has too many roles or grants")));
                }
            }
            let written = tokio::task::spawn_blocking(move || store.write(&book)).await;
            written.unwrap_or_else(|error| Err(error.to_string())).map_err(Unchanged::Invalid)?;
            door.state.store(Arc::new(state));
            let generation = door.generation.fetch_add(1, Ordering::AcqRel) + 1;
            door.changed.send_replace(generation);
            Ok(outcome)
        });
        changing.await.unwrap_or_else(|error| Err(Unchanged::Invalid(format!("the change did not come to its end: {error}"))))
    }

    /// The book, with when tokens were used.
    fn book_of(&self, state: &State) -> Book {
        let mut book = state.book.clone();
        for (id, token) in &mut book.tokens {
            let used = state.tokens.get(id).map_or(0, |known| known.used_ms.load(Ordering::Relaxed));
            token.last_used_ms = token.last_used_ms.max(Some(used).filter(|used| *used > 0));
        }
        book
    }

    /// Writes down now and then when tokens were used. It goes on until it is dropped.
    pub async fn keep(self: Arc<Self>) {
        let mut every = tokio::time::interval(USED_WRITTEN_EVERY);
        loop {
            every.tick().await;
            self.write_used().await;
            self.sessions.sweep(self.now_ms());
        }
    }

    /// Writes down when tokens were used, if any were since the last time.
    pub async fn write_used(&self) {
        let Some(store) = self.settings.store.clone() else { return };
        if !self.used.swap(false, Ordering::Relaxed) {
            return;
        }
        let turn = self.changing.clone().lock_owned().await;
        let book = self.book_of(&self.state.load());
        if book.tokens.is_empty() {
            return;
        }
        // The turn goes along: a server that ends stops waiting here, and writes once more, which must not meet this.
        let written = tokio::task::spawn_blocking(move || {
            let written = store.write(&book);
            drop(turn);
            written
        });
        let written = written.await;
        if let Err(error) = written.unwrap_or_else(|error| Err(error.to_string())) {
            self.used.store(true, Ordering::Relaxed);
            tracing::warn!(error, "when tokens were used last is not written down");
        }
    }

    /// How long a person's session lasts.
    pub fn session_life(&self) -> Duration {
        self.settings.session
    }
}

fn no_store() -> Unchanged {
    Unchanged::Invalid("there is no file to keep it in: give the server a data folder, or access.file in the configuration".to_owned())
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("is_guarded", &self.is_guarded()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
