//! The commands of a guide, which are run as written.

/// The lines of the shell blocks of a page in order, with their documented exit codes: `# exits N`, else 0.
pub fn commands(page: &str) -> Vec<(&str, i32)> {
    let blocks = page.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap_or_default());
    let exit = |line: &str| line.split_once("# exits ").map_or(0, |(_, rest)| rest[..1].parse().expect("an exit code"));
    blocks.flat_map(str::lines).map(|line| (line, exit(line))).collect()
}
