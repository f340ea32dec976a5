//! The log from outside: crashes, witnesses, HTTP.

mod crash;
mod http;
mod support;
mod witnesses;
