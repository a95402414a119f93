//! Markers: files whose names begin with `_` or `.`, which tools write next to their data, such as `_SUCCESS`,
//! `_committed_123`, `.part-0.csv.crc`, `_temporary/` and `_delta_log/`. They are sources only if named.

/// First characters of such names.
const MARKS: [char; 2] = ['_', '.'];

/// Whether the name of a file or folder is a marker.
pub(crate) fn is_marked(name: &str) -> bool {
    name.starts_with(MARKS)
}

/// Whether a key under a prefix is skipped because its name, or a folder in between, is a marker. Names that the prefix
/// spells out are wanted, even if it ends within a name.
pub fn is_marker(prefix: &str, key: &str) -> bool {
    let base = prefix.rfind('/').map_or(0, |slash| slash + 1);
    let mut names = key.get(base..).unwrap_or_default().split('/');
    let first = names.next().unwrap_or_default();
    (prefix.len() == base && is_marked(first)) || names.any(is_marked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_identified_by_name_and_folder() {
        let cases = [
            ("", "a.csv", false),
            ("", "_SUCCESS", true),
            ("out/", "out/_SUCCESS", true),
            ("out/", "out/date=2024-03-14/_committed_123", true),
            ("out/", "out/date=2024-03-14/.part-00000.csv.crc", true),
            ("out/", "out/_temporary/0/part-0.csv", true),
            ("out/", "out/_delta_log/0.json", true),
            ("out/", "out/a_b.csv", false),
            ("out/", "out/a.b/_", true),
            ("out/", "out//a.csv", false),
            ("_out/", "_out/a.csv", false),
            ("_out/", "_out/_a.csv", true),
            ("_out/_", "_out/_a.csv", false),
            ("_out/_a", "_out/_a/_b", true),
            ("in", "in/.a.csv", true),
            ("é/", "é/_a.csv", true),
        ];
        for (prefix, key, expected) in cases {
            assert_eq!(is_marker(prefix, key), expected, "{prefix} {key}");
        }
    }
}
