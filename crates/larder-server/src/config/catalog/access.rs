//! The sections about who may do what, and how much of it.

use super::{Section, optional, setting};
use crate::config::value::Kind;

const ANY_NUMBER: Kind = Kind::Count { least: 0, most: u32::MAX as u64 };

/// Who may do what.
pub const ACCESS: Section = Section {
    name: "access",
    about: "Access control. Roles and principals are written [[role]] and [[principal]], or managed while the server runs (larder token, larder access), which needs a data folder or a file.",
    settings: &[
        setting(
            "enabled",
            Kind::Flag,
            "false",
            "Whether whoever asks has to say who they are, over HTTP and RESP alike, and may do only what they are allowed to. larder init makes the first token.",
        ),
        optional(
            "file",
            Kind::File,
            "Where tokens and principals are kept that are managed while the server runs. Without it, access.json in the data folder.",
        ),
        setting("session", Kind::Time, "12h", "How long somebody who gave a password to a browser stays who they are."),
        setting(
            "requests_per_second",
            ANY_NUMBER,
            "0",
            "Requests that each principal may make in a second, over HTTP and RESP together; as many may come at once. 0: any number.",
        ),
        setting(
            "connections_max",
            ANY_NUMBER,
            "0",
            "Connections that each principal may have at once, where over HTTP each request under way is one. 0: any number.",
        ),
    ],
};

/// Roles beside the built-in ones.
pub const ROLE: Section = Section {
    name: "role",
    about: "A name for grants, beside the built-in roles admin, service, client, invalidator, operator and viewer. Written [[role]], once for each.",
    settings: &[
        optional("name", Kind::Text("a name of 1 to 64 letters, digits, '_', '-', '.' and '@'"), "What it is called."),
        optional(
            "grants",
            Kind::Texts("allow read, write on features:**"),
            "What it allows and denies: allow or deny, operations (read, write, delete, invalidate, emit, admin, metrics, all), and perhaps a pattern of keys and one of tags. Their order means nothing: what any denies is denied.",
        ),
        optional(
            "pipeline_max",
            ANY_NUMBER,
            "Requests that may come over RESP before the first of them is answered. Who has several roles is held to the strictest. A role that is built in may be named to say this of it. 0: any number.",
        ),
        optional("request_bytes_max", Kind::Size { least: 1 << 10 }, "The largest request over RESP, and body of one over HTTP."),
    ],
};

/// Principals that are not managed while the server runs.
pub const PRINCIPAL: Section = Section {
    name: "principal",
    about: "Somebody who may do something, with a token or a password of their own. Written [[principal]], once for each.",
    settings: &[
        optional("name", Kind::Text("a name of 1 to 64 letters, digits, '_', '-', '.' and '@'"), "What they are called."),
        optional("roles", Kind::Texts("service"), "The names of their roles."),
        optional("grants", Kind::Texts("deny read on features:secret:**"), "Grants of their own, as a role has them."),
        optional("token", Kind::Secret, "Their token, as larder token draw prints one. Others can be made while the server runs."),
        optional("password", Kind::Secret, "Their password, of 10 to 256 bytes, or what Argon2id makes of it ($argon2id$..)."),
        optional(
            "certificates",
            Kind::Texts("uri:spiffe://example.org/ingest"),
            "Names in client certificates that are theirs: dns:, uri: or email: and the name. Needs tls.clients.",
        ),
        optional("requests_per_second", ANY_NUMBER, "Their requests in a second, in the place of what access.requests_per_second says."),
        optional("connections_max", ANY_NUMBER, "Their connections at once, in the place of what access.connections_max says."),
    ],
};
