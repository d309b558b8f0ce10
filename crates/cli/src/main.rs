//! The program `zhenjin`.
fn main() {}
