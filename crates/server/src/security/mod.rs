//! Who may talk to this server, and what its answers allow a browser to do.

mod access;
mod headers;
mod hosts;

pub(crate) use access::{Credential, SESSION_COOKIE, Tenant, authenticate};
pub(crate) use headers::add_headers;
pub(crate) use hosts::{check_host, check_origin};
