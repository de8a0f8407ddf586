//! The manx binary.
fn main() {}
