//! A loopback port that stays ours while the server on it is down. It knows nothing of servers.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt};

/// A TCP port of 127.0.0.1, reserved until this is dropped.
///
/// A port that is merely known to be free is lost to whoever asks the kernel for a port in the moment before the server
/// binds it, and again each time the server is down: to a test beside this one, or to a client's own outgoing connection,
/// which may even connect to itself. So we keep a socket bound to it that never listens. Linux lets a server bind the
/// port beside it, since both have `SO_REUSEADDR` and ours does not listen; it refuses a connection while there is no
/// server; and it gives the port to nobody who asks for any free one. Other systems do not let the server in, so there the
/// port is given up at once.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _held: Option<OwnedFd>,
}

impl Port {
    /// Reserves a port of the kernel's choice.
    ///
    /// # Errors
    ///
    /// When the machine has no port left.
    pub fn reserve() -> io::Result<Self> {
        Port::hold(0)
    }

    /// Reserves a port such that the one this much higher is reserved, too: where a cluster's nodes talk to each other.
    pub(crate) fn reserve_pair(distance: u16) -> io::Result<(Self, Self)> {
        // Half of all attempts or more succeed; a machine on which this many fail has no ports left.
        const ATTEMPTS: usize = 64;
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..ATTEMPTS {
            let low = Port::reserve()?;
            let Some(number) = low.number.checked_add(distance) else { continue };
            match Port::hold(number) {
                Ok(high) => return Ok((low, high)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn hold(number: u16) -> io::Result<Self> {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, number))?;
        // After the bind: with it before, we would share a port that somebody else holds in the same way.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        let bound = SocketAddr::try_from(getsockname(&socket)?)?;
        Ok(Port { number: bound.port(), _held: cfg!(target_os = "linux").then_some(socket) })
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_reserved_port_takes_a_server_again_and_again_and_nobody_else_gets_it() {
        let port = Port::reserve().expect("a port");
        let address = (Ipv4Addr::LOCALHOST, port.number());
        for _ in 0..2 {
            assert_eq!(TcpStream::connect(address).expect_err("nobody listens").kind(), io::ErrorKind::ConnectionRefused);
            assert!(Port::hold(port.number()).is_err(), "it is reserved");
            let server = TcpListener::bind(address).expect("a server gets it");
            TcpStream::connect(address).expect("and is reached");
            drop(server);
        }
    }

    #[test]
    fn a_pair_is_as_far_apart_as_asked() {
        let (low, high) = Port::reserve_pair(10_000).expect("two ports");
        assert_eq!(high.number() - low.number(), 10_000);
    }
}
