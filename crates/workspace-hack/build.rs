//! Without a build script cargo would not look at the build dependencies, whose features are united here as well.

fn main() {}
