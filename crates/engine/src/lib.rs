//! zhenjin-engine
