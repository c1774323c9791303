//! History through the doors that users have: the program that is stopped and killed, its file, HTTP, and several caches over Redis.

#[path = "history/fleet.rs"]
mod fleet;
#[path = "history/killed.rs"]
mod killed;
