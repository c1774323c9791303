//! From `[access]`, `[[role]]` and `[[principal]]` to who may do what: secrets are fetched from where they are said to be, and what of them
//! must be kept is all that is kept.

use std::collections::BTreeMap;
use std::path::Path;

use larder::access::{Grant, Policy, Role};

use super::Typed;
use super::document::Givens;
use super::fault::{Fault, Place};
use super::value::Value;
use crate::access::allowance::{Allowances, OfPrincipal, OfRole};
use crate::access::password::{Hashed, PASSWORD_LEN};
use crate::access::store::Store;
use crate::access::token::Token;
use crate::access::{AccessSettings, Configured};
use crate::tls::PeerName;

type List<'a> = &'a [(Place, Givens)];

/// What the sections say, and what is wrong with them.
pub fn of(
    givens: &Givens,
    (roles, principals): (List<'_>, List<'_>),
    data: Option<&Path>,
    environment: &BTreeMap<String, String>,
    faults: &mut Vec<Fault>,
) -> AccessSettings {
    let typed = Typed(givens);
    let mut policy = Policy::new();
    let mut read = Vec::new();
    let mut allowances = Allowances { anybody: of_principal(givens, OfPrincipal::default()), ..Allowances::default() };
    for (place, givens) in roles {
        let limits = OfRole { pipeline_max: count(givens, "pipeline_max").unwrap_or(0), request_bytes_max: bytes(givens) };
        let limited = limits != OfRole::default();
        if let (true, Some(name)) = (limited, name_in(givens)) {
            allowances.roles.insert(name.to_owned(), limits);
            if !givens.contains_key("grants") && Role::built_in(name).is_some() {
                continue;
            }
        }
        let Some(role) = role(place, givens, faults) else { continue };
        match policy.clone().role(role.clone()) {
            Ok(with) => policy = with,
            Err(error) => faults.push(Fault::new(place, format!("role.name: {}", error.message()))),
        }
        read.push(role);
    }
    let mut settings = AccessSettings {
        enabled: typed.flag("enabled"),
        store: typed.path("file").map(Store::at).or_else(|| data.map(Store::in_folder)),
        roles: read,
        principals: Vec::new(),
        session: typed.time("session"),
        allowances,
    };
    for (place, givens) in principals {
        let reading = Reading { place, givens, environment };
        let Some(principal) = reading.principal(faults) else { continue };
        let with = policy.clone().principal(&principal.name, principal.roles.iter().map(String::as_str), principal.grants.clone());
        match with {
            Ok(with) => policy = with,
            Err(error) => faults.push(Fault::new(place, format!("principal: {}", error.message()))),
        }
        let other = settings.principals.iter().find(|other| other.token.is_some() && same_id(other, &principal));
        if let Some(other) = other {
            faults
                .push(Fault::new(place, format!("principal.token: it has the id of the token of \"{}\"; each is drawn anew", other.name)));
        }
        for name in &principal.certificates {
            if let Some(other) = settings.principals.iter().find(|other| other.certificates.contains(name)) {
                faults.push(Fault::new(place, format!("principal.certificates: {name} is the name of \"{}\" already", other.name)));
            }
        }
        if ["requests_per_second", "connections_max"].iter().any(|name| givens.contains_key(*name)) {
            let own = of_principal(givens, settings.allowances.anybody);
            settings.allowances.principals.insert(principal.name.clone(), own);
        }
        settings.principals.push(principal);
    }
    if settings.enabled && settings.store.is_none() && settings.principals.iter().all(|one| one.has_no_proof()) {
        let place = givens.get("enabled").map_or(&Place::Default, |given| &given.place);
        faults.push(Fault::new(
            place,
            "access.enabled: nobody could be let in: give a data folder, access.file, or a [[principal]] with a token",
        ));
    }
    settings
}

fn same_id(one: &Configured, other: &Configured) -> bool {
    one.token.as_ref().map(|(id, _)| id) == other.token.as_ref().map(|(id, _)| id)
}

/// What a principal may ask for; where nothing is said, what `otherwise` says.
fn of_principal(givens: &Givens, otherwise: OfPrincipal) -> OfPrincipal {
    OfPrincipal {
        requests_per_second: count(givens, "requests_per_second").unwrap_or(otherwise.requests_per_second),
        connections_max: count(givens, "connections_max").unwrap_or(otherwise.connections_max),
    }
}

fn count(givens: &Givens, name: &str) -> Option<u32> {
    match givens.get(name)?.value {
        Value::Count(count) => Some(u32::try_from(count).unwrap_or(u32::MAX)),
        ref other => unreachable!("{name} is a number, not {other}"),
    }
}

/// The largest request of a role; 0 where nothing is said.
fn bytes(givens: &Givens) -> usize {
    match givens.get("request_bytes_max").map(|given| &given.value) {
        Some(Value::Size(bytes)) => usize::try_from(*bytes).unwrap_or(usize::MAX),
        _ => 0,
    }
}

/// The grants of a role or a principal, and what is wrong with each.
fn grants(section: &str, givens: &Givens, faults: &mut Vec<Fault>) -> Vec<Grant> {
    let Some(given) = givens.get("grants") else { return Vec::new() };
    let Value::Texts(texts) = &given.value else { unreachable!("the catalog says that they are texts") };
    let read = |text: &String| {
        let grant = text.parse::<Grant>();
        grant.map_err(|error| faults.push(Fault::new(&given.place, format!("{section}.grants: {}", error.message())))).ok()
    };
    texts.iter().filter_map(read).collect()
}

fn name<'a>(section: &str, place: &Place, givens: &'a Givens, faults: &mut Vec<Fault>) -> Option<&'a str> {
    let Some(name) = name_in(givens) else {
        faults.push(Fault::new(place, format!("{section}.name: each has a name")));
        return None;
    };
    let checked = larder::access::check_name(name);
    checked.map_err(|error| faults.push(Fault::new(place, format!("{section}.name: {}", error.message())))).ok()?;
    Some(name)
}

fn name_in(givens: &Givens) -> Option<&str> {
    match &givens.get("name")?.value {
        Value::Text(name) => Some(name),
        _ => None,
    }
}

fn role(place: &Place, givens: &Givens, faults: &mut Vec<Fault>) -> Option<Role> {
    let grants = grants("role", givens, faults);
    let name = name("role", place, givens, faults)?;
    if grants.is_empty() && !givens.contains_key("grants") {
        faults.push(Fault::new(place, "role.grants: a role is a name for grants, and has some"));
    }
    Role::new(name, grants).map_err(|error| faults.push(Fault::new(place, format!("role.name: {}", error.message())))).ok()
}

struct Reading<'a> {
    place: &'a Place,
    givens: &'a Givens,
    environment: &'a BTreeMap<String, String>,
}

impl Reading<'_> {
    fn principal(&self, faults: &mut Vec<Fault>) -> Option<Configured> {
        let grants = grants("principal", self.givens, faults);
        let roles = match self.givens.get("roles").map(|given| &given.value) {
            Some(Value::Texts(roles)) => roles.clone(),
            _ => Vec::new(),
        };
        let token = self.secret("token", "it is no token, as larder token draw prints one", faults, |text| {
            Token::parse(text.as_bytes()).map(|token| (token.id().to_owned(), token.digest()))
        });
        let password = self.secret("password", "it is no password of 10 to 256 bytes, and nothing that Argon2id made", faults, hashed);
        let certificates = self.certificates(faults);
        let name = name("principal", self.place, self.givens, faults)?.to_owned();
        Some(Configured { name, roles, grants, token, password, certificates })
    }

    fn certificates(&self, faults: &mut Vec<Fault>) -> Vec<PeerName> {
        let Some(given) = self.givens.get("certificates") else { return Vec::new() };
        let Value::Texts(texts) = &given.value else { unreachable!("the catalog says that they are texts") };
        let read = |text: &String| {
            let name = PeerName::parse(text);
            if name.is_none() {
                let what = format!("principal.certificates: found \"{}\"; expected dns:, uri: or email: and a name", text.escape_debug());
                faults.push(Fault::new(&given.place, what));
            }
            name
        };
        texts.iter().filter_map(read).collect()
    }

    /// A secret, made into what is kept of it. What stands there is not repeated, whatever it is.
    fn secret<T>(&self, name: &str, wrong: &str, faults: &mut Vec<Fault>, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let given = self.givens.get(name)?;
        let Value::Secret(reference) = &given.value else { unreachable!("the catalog says that it is a secret") };
        let found = reference.resolve(self.environment).and_then(|text| read(&text).ok_or_else(|| wrong.to_owned()));
        found.map_err(|what| faults.push(Fault::new(&given.place, format!("principal.{name}: found \"{reference}\"; {what}")))).ok()
    }
}

fn hashed(text: &str) -> Option<Hashed> {
    if text.starts_with("$argon2") {
        return Hashed::parse(text);
    }
    if !PASSWORD_LEN.contains(&text.len()) {
        return None;
    }
    Hashed::of(text.as_bytes()).ok()
}
