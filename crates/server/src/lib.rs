//! zhenjin-server
