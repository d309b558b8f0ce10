//! Who may talk to this server, and what its answers allow a browser to do.

mod access;
mod headers;
mod hosts;
mod rules;

pub(crate) use access::{Caller, Credential, SESSION_COOKIE, authenticate, identify};
pub(crate) use headers::add_headers;
pub(crate) use hosts::{check_host, check_origin};
