//! zhenjin-assistant
