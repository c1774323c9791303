//! From the section `[tls]`, and what the doors say of it, to what stands between them and whoever reaches them. Certificate and key are
//! read here, so that what cannot be used is told before anything starts.

use std::path::PathBuf;
use std::sync::Arc;

use axum::http::uri::Authority;

use super::Typed;
use super::catalog::{ACCESS, HTTP, RESP, TLS, TOP};
use super::document::{Document, Givens};
use super::fault::{Fault, Place};
use super::value::Value;
use crate::exposure::{ADVICE, exposed};
use crate::settings::Guards;
use crate::tls::{ClientCertificates, Tls, TlsSettings};

/// What the sections say, and what is wrong with it.
pub fn of(document: &Document, faults: &mut Vec<Fault>) -> Guards {
    let wrong = faults.len();
    let tls = opened(&document.fixed[TLS.name], faults);
    let (http, resp) = (&document.fixed[HTTP.name], &document.fixed[RESP.name]);
    let guards = Guards {
        http_tls: Typed(http).flag("tls"),
        resp_tls: Typed(resp).flag("tls"),
        hosts: hosts(http, faults),
        insecure: Typed(&document.fixed[TOP.name]).flag("insecure"),
        tls,
    };
    // A certificate that is there and cannot be used is not also missing.
    if !guards.insecure && faults.len() == wrong {
        let listen = |givens: &Givens| match &givens.get("listen")?.value {
            Value::Address(addr) => Some(*addr),
            other => unreachable!("listen is an address, not {other}"),
        };
        let is_guarded = Typed(&document.fixed[ACCESS.name]).flag("enabled");
        let open = listen(http).map(|addr| exposed(addr, listen(resp), &guards, is_guarded)).unwrap_or_default();
        faults.extend(open.iter().map(|one| {
            let givens = if one.setting.starts_with(RESP.name) { resp } else { http };
            Fault::new(&givens["listen"].place, format!("{one}: {ADVICE}"))
        }));
    }
    guards
}

/// Names, without ports: those say nothing of whose server it is.
fn hosts(givens: &Givens, faults: &mut Vec<Fault>) -> Vec<String> {
    let typed = Typed(givens);
    let Value::Texts(hosts) = typed.get("hosts") else { unreachable!("http.hosts is a list of texts") };
    let is_host = |host: &str| host == "*" || host.parse::<Authority>().is_ok_and(|authority| authority.host() == host);
    for host in hosts.iter().filter(|host| !is_host(host)) {
        let what = format!("http.hosts: found \"{}\"; expected the name of a host without a port", host.escape_debug());
        faults.push(Fault::new(&givens["hosts"].place, what));
    }
    hosts.clone()
}

fn opened(givens: &Givens, faults: &mut Vec<Fault>) -> Option<Arc<Tls>> {
    let path = |name: &str| match &givens.get(name)?.value {
        Value::Path(path) => Some(path.clone()),
        other => unreachable!("tls.{name} is a file, not {other}"),
    };
    let place = |name: &str| givens.get(name).map_or(Place::Default, |given| given.place.clone());
    let mut fault = |name: &str, what: String| faults.push(Fault { place: place(name), message: what });
    for (name, other) in [("certificate", "key"), ("key", "certificate"), ("client_authority", "certificate")] {
        if let Some(given) = givens.get(name).filter(|_| !givens.contains_key(other)) {
            fault(name, format!("tls.{name}: found {}; expected {other} beside it", given.value));
        }
    }
    for name in ["handshake_timeout", "look_every"] {
        if Typed(givens).time(name).is_zero() {
            fault(name, format!("tls.{name}: found \"0s\"; expected longer than no time"));
        }
    }
    let clients = clients(givens, path("client_authority")).unwrap_or_else(|(name, what)| {
        fault(name, what);
        ClientCertificates::Off
    });
    let settings = TlsSettings {
        certificate: path("certificate")?,
        key: path("key")?,
        clients,
        only_1_3: matches!(Typed(givens).get("version_min"), Value::Choice("1.3")),
        handshake_timeout: Typed(givens).time("handshake_timeout"),
        look_every: Typed(givens).time("look_every"),
    };
    let opened = Tls::open(settings);
    opened.map_err(|error| fault(error.setting.trim_start_matches("tls."), error.to_string())).ok()
}

/// Or the setting that is wrong, and how.
fn clients(givens: &Givens, authority: Option<PathBuf>) -> Result<ClientCertificates, (&'static str, String)> {
    match (Typed(givens).get("clients"), authority) {
        (Value::Choice("off"), None) => Ok(ClientCertificates::Off),
        (Value::Choice("off"), Some(authority)) => {
            let what = format!("found \"{}\"; it has no use while clients is \"off\"", authority.display());
            Err(("client_authority", format!("tls.client_authority: {what}")))
        }
        (Value::Choice("optional"), Some(authority)) => Ok(ClientCertificates::Optional(authority)),
        (Value::Choice("required"), Some(authority)) => Ok(ClientCertificates::Required(authority)),
        (word, None) => Err(("clients", format!("tls.clients: found {word}; expected client_authority beside it"))),
        (other, _) => unreachable!("tls.clients is one of three words, not {other}"),
    }
}
