//! Sources of events against the real servers, and what becomes of events when any of it is killed. Each test has a server of its
//! own, and skips, saying so, where that is not installed.

mod broker;
mod child;
mod postgres;
mod proof;
mod redis;
mod support;
