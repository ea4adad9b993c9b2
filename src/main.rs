//! The `natseq` program.
fn main() {}
