//! The server's configuration: the address, who may use it, and the limits.

use std::net::SocketAddr;
use std::time::Duration;

use crate::security::normalised_origin;

/// The server's configuration.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// Ask for an API key even on a loopback address.
    pub require_key: bool,
    /// The model for new conversations that name none; `None`: the first one served.
    pub default_model: Option<String>,
    /// Host names, besides those of the machine itself and IP addresses, under which browsers may reach this server. With one, it asks
    /// for a key: a name is for others.
    pub allowed_hosts: Vec<String>,
    /// Origins (`https://example.org`, `app://name`, `null`) whose pages may call the APIs.
    pub cors_origins: Vec<String>,
    /// The largest request body, in bytes. All together may have 32 times as many, what is parsed of them included, three quarters of them for
    /// one owner where keys are asked for; further ones get 429, unless they are small.
    pub body_limit: usize,
    /// How long a client may take to send its request's head, and again its body.
    pub read_timeout: Duration,
    /// How long a client may refuse to take any byte of an answer.
    pub write_timeout: Duration,
    /// The most connections open at once; further ones wait to be accepted.
    pub connection_limit: usize,
    /// The most requests that generate or stream answers at once, three quarters of them for one owner; further ones get 429. As many
    /// streams of events, at least 64, may follow beside them, a quarter of them for one owner. Where no key is asked for, everybody is one
    /// owner, who may have all.
    pub stream_limit: usize,
    /// How long running answers may go on after the server was told to stop.
    pub shutdown_limit: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        ServerOptions {
            address: SocketAddr::from(([127, 0, 0, 1], 8080)),
            require_key: false,
            default_model: None,
            allowed_hosts: Vec::new(),
            cors_origins: Vec::new(),
            body_limit: 8 << 20,
            read_timeout: Duration::from_secs(15),
            write_timeout: Duration::from_secs(60),
            connection_limit: 1024,
            stream_limit: 256,
            shutdown_limit: Duration::from_secs(20),
        }
    }
}

impl ServerOptions {
    /// Whether `/v1` and `/api` answer only to a key, whoever asks. (What a proxy passes on needs one in any case.)
    pub fn needs_key(&self) -> bool {
        self.require_key || !self.address.ip().is_loopback() || !self.allowed_hosts.is_empty()
    }

    /// Refuses options under which the server would be open to strangers, or could not work.
    ///
    /// `has_key` is whether any API key exists.
    pub fn check(&self, has_key: bool) -> Result<(), OptionsError> {
        if self.needs_key() && !has_key {
            return Err(OptionsError::NoKey { address: self.address });
        }
        for origin in &self.cors_origins {
            if normalised_origin(origin).is_none() {
                return Err(OptionsError::Origin { origin: origin.clone() });
            }
        }
        for host in &self.allowed_hosts {
            if host.is_empty() || host.contains(['/', ' ', '*', ':', '@']) {
                return Err(OptionsError::Host { host: host.clone() });
            }
        }
        for (name, value) in
            [("body", self.body_limit), ("connection", self.connection_limit), ("stream", self.stream_limit)]
        {
            if value == 0 {
                return Err(OptionsError::ZeroLimit { name });
            }
        }
        Ok(())
    }
}

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// A key is needed and none exists.
    #[error(
        "{address} needs an API key, and there is none yet: others may reach that address, a host name was allowed, or a key was \
         asked for. Make one first, or listen on 127.0.0.1"
    )]
    NoKey {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// Not an origin.
    #[error(
        "`{origin}` is not an origin: write a scheme, a host and perhaps a port, as in https://example.org or app://name (no path, no *), or null"
    )]
    Origin {
        /// What was given.
        origin: String,
    },
    /// Not a host name.
    #[error("`{host}` is not a host name: write it without scheme, port and path, as in chat.example.org")]
    Host {
        /// What was given.
        host: String,
    },
    /// A limit under which nothing could ever be served.
    #[error("the {name} limit is 0, under which nothing could be served: give at least 1")]
    ZeroLimit {
        /// Which limit.
        name: &'static str,
    },
}
