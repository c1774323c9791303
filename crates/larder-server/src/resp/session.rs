//! What a connection has told the server, and what the server keeps for it between its requests.

use std::collections::BTreeSet;
use std::sync::Arc;

use larder::{Position, Putter};

use super::access::STRANGERS;
use super::allowance::Allowance;
use super::clients::Client;
use super::frame::OwnedArgs;
use super::reply::{Protocol, Replies};
use super::table::Command;
use super::tracking::Tracked;
use super::transactions::Watched;
use crate::access::Identity;
use crate::audit::Written;
use crate::tls::PeerNames;

/// See the head of this file.
#[derive(Debug)]
pub struct Session {
    /// What others see of it.
    pub client: Arc<Client>,
    /// The names in the certificate that it showed, which was verified; none where it showed none.
    pub peer: PeerNames,
    /// What is queued, in a transaction.
    pub queue: Option<Queue>,
    /// What is watched.
    pub watched: Vec<Watched>,
    /// Channels that it listens to.
    pub channels: BTreeSet<Vec<u8>>,
    /// Patterns of channels that it listens to.
    pub patterns: BTreeSet<Vec<u8>>,
    /// How it is told of what changes, if it is.
    pub tracked: Option<Tracked>,
    /// Whether it is answered.
    pub answers: Answers,
    /// Whether its reads do not count as use.
    pub no_touch: bool,
    /// Whether it ends once it is answered.
    pub ends: bool,
    /// Where the last change stands in the log, for its record.
    pub position: Option<Position>,
    /// Whether the refusal of what it asks for now is recorded.
    pub is_denial_recorded: bool,
    /// The last record of what it did, which replies wait for.
    pub unwritten: Option<Written>,
    /// Who it is, if that was proven.
    pub who: Option<Arc<Identity>>,
    /// Of which number of what the door knows.
    pub generation: u64,
    /// What it may have, where there is access control.
    pub allowance: Allowance,
    /// Requests that came since its client last waited for replies.
    pub pipelined: u32,
    /// By which it puts what has nothing to wait for.
    pub putter: Putter,
}

/// Commands of a transaction.
#[derive(Debug, Default)]
pub struct Queue {
    /// In their order.
    pub calls: Vec<(&'static Command, OwnedArgs)>,
    /// What they take in memory.
    pub bytes: usize,
    /// Whether one was refused, so that none is carried out.
    pub is_spoilt: bool,
}

/// What of the replies a client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answers {
    /// All.
    #[default]
    On,
    /// None.
    Off,
    /// Not that of the next command.
    SkipNext,
    /// Not that of this command.
    Skip,
}

impl Session {
    /// That of a connection which has said nothing yet.
    pub fn new(client: Arc<Client>, putter: Putter) -> Self {
        Session {
            client,
            peer: PeerNames::default(),
            queue: None,
            watched: Vec::new(),
            channels: BTreeSet::new(),
            patterns: BTreeSet::new(),
            tracked: None,
            answers: Answers::On,
            no_touch: false,
            ends: false,
            position: None,
            is_denial_recorded: false,
            unwritten: None,
            who: None,
            generation: 0,
            allowance: Allowance::of(STRANGERS),
            pipelined: 0,
            putter,
        }
    }

    /// Whether its reads are as any: nobody has to put down what it read, and they count as use.
    #[inline]
    pub fn reads_plainly(&self) -> bool {
        self.tracked.is_none() && !self.no_touch
    }

    /// Whether messages may come that it did not ask for.
    pub fn listens(&self) -> bool {
        self.is_subscribed() || self.tracked.is_some()
    }

    /// Whether it listens to channels.
    pub fn is_subscribed(&self) -> bool {
        !self.channels.is_empty() || !self.patterns.is_empty()
    }

    /// Whether, in version 2, it can do nothing else now.
    pub fn only_listens(&self, out: &Replies) -> bool {
        out.protocol == Protocol::Resp2 && self.is_subscribed()
    }
}
