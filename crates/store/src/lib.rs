//! zhenjin-store
