//! zhenjin-model
