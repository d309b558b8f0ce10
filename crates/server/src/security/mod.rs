//! Who may talk to this server, and what its answers allow a browser to do.

mod access;
mod headers;
mod hosts;
mod origins;
mod proxies;
mod rules;
mod throttle;

pub(crate) use access::{Caller, Credential, authenticate, identify, needs_key, session_cookie};
pub(crate) use headers::add_headers;
pub(crate) use hosts::check_host;
pub(crate) use origins::{check_origin, cors, normalised_origin};
pub(crate) use rules::{Access, access_of};
pub(crate) use throttle::{LoginThrottle, Peer};
