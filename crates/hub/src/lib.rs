//! zhenjin-hub
