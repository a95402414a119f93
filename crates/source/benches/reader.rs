//! Reader.

fn main() {
    divan::main();
}
