//! What guards the doors: TLS, what keeps the pages of others out, and the audit log.

mod audit;
mod browsers;
mod exposed;
mod site;
mod tls;
