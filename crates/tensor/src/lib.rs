//! zhenjin-tensor
