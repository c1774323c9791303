//! Doors that are open to more than this machine. Without access control and TLS, whoever reaches one may read and change everything,
//! and whoever is on the way may look on: so they are not opened unless that is wanted in so many words, and then it is told for as long
//! as it is so.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::settings::Guards;

/// How often the log says it.
const SAID_EVERY: Duration = Duration::from_secs(3_600);

/// A door that is open to more than this machine, and what it lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposed {
    /// The setting that opens it: `http.listen` or `resp.listen`.
    pub setting: &'static str,
    /// Where it is.
    pub addr: SocketAddr,
    lacks_access_control: bool,
    lacks_tls: bool,
}

/// Without saying what to do about it.
impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lacks = match (self.lacks_access_control, self.lacks_tls) {
            (true, true) => "access control and TLS",
            (true, false) => "access control",
            (false, _) => "TLS",
        };
        write!(f, "{} is beyond this machine ({}), without {lacks}", self.setting, self.addr)
    }
}

/// The doors that lack something: TLS, or that whoever asks has to be somebody.
pub fn exposed(http: SocketAddr, resp: Option<SocketAddr>, guards: &Guards, is_guarded: bool) -> Vec<Exposed> {
    let doors = [Some(("http.listen", http, guards.http_tls)), resp.map(|addr| ("resp.listen", addr, guards.resp_tls))];
    let exposed = doors.into_iter().flatten().map(|(setting, addr, speaks_tls)| Exposed {
        setting,
        addr,
        lacks_access_control: !is_guarded,
        lacks_tls: guards.tls.is_none() || !speaks_tls,
    });
    exposed.filter(|one| !is_this_machine(one.addr) && (one.lacks_access_control || one.lacks_tls)).collect()
}

/// Whether nobody from elsewhere gets there.
fn is_this_machine(addr: SocketAddr) -> bool {
    addr.ip().to_canonical().is_loopback()
}

/// What to do about it.
pub const ADVICE: &str = "give it access control and TLS ([tls]), or an address of this machine; insecure = true (--insecure) does without";

/// Says so at once and then every hour, until it is dropped.
pub async fn warn(exposed: Vec<Exposed>) {
    let mut every = tokio::time::interval(SAID_EVERY);
    loop {
        every.tick().await;
        exposed.iter().for_each(|one| tracing::warn!("insecure: {one}: whoever reaches it may do everything, or read along"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_needs_both_unless_it_is_of_this_machine() {
        let addr = |text: &str| text.parse::<SocketAddr>().expect("it is an address");
        let none = Guards::default();
        for own in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(exposed(addr(own), Some(addr(own)), &none, false), [], "{own}");
        }
        for open in ["0.0.0.0:1", "[::]:1", "192.168.0.7:1", "[::ffff:10.0.0.1]:1"] {
            assert_eq!(exposed(addr(open), None, &none, false).len(), 1, "{open}");
        }
        let told = |is_guarded| {
            exposed(addr("0.0.0.0:1"), Some(addr("127.0.0.1:2")), &none, is_guarded).iter().map(Exposed::to_string).collect::<Vec<_>>()
        };
        assert_eq!(told(false), ["http.listen is beyond this machine (0.0.0.0:1), without access control and TLS"]);
        assert_eq!(told(true), ["http.listen is beyond this machine (0.0.0.0:1), without TLS"]);
    }
}
