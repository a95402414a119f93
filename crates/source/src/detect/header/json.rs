//! The header of a JSON source: the names of its objects, and the paths of the mapping.

use assay_transaction::{Columns, HeaderError, Mapping, REQUIRED_COLUMNS, json_members, name_key, trimmed};

use crate::SourceError;

/// Depth of the search for a missing name.
const DEPTH: usize = 8;
/// Objects searched for it.
const LOOKED_AT: usize = 20;

/// The columns of the objects of a head, as mapped.
pub(crate) fn columns<'a>(
    objects: impl Iterator<Item = &'a [u8]>,
    mapping: Option<&Mapping>,
) -> Result<Columns, SourceError> {
    let objects: Vec<&[u8]> = objects.collect();
    let names = names(&objects, mapping);
    if names.is_empty() {
        return Err(SourceError::Empty);
    }
    Columns::from_names(names, mapping).map_err(|error| match error {
        HeaderError::Missing { missing, found, within: _ } => {
            let within = paths_to(&objects, &missing);
            HeaderError::Missing { missing, found, within }.into()
        }
        error => error.into(),
    })
}

/// The names in order of appearance, then the paths. An object that a path enters is not a name, unless the mapping
/// names it.
fn names(objects: &[&[u8]], mapping: Option<&Mapping>) -> Vec<String> {
    let mut names: Vec<(String, String)> = Vec::new();
    for object in objects {
        for (name, _) in json_members(object).unwrap_or_default() {
            let key = name_key(&name);
            // A name that cannot be stored costs its row.
            if name.contains('\0') {
                continue;
            }
            if !names.iter().any(|(known, _)| *known == key) {
                names.push((key, trimmed(&name).to_owned()));
            }
        }
    }
    let Some(mapping) = mapping else { return names.into_iter().map(|(_, name)| name).collect() };
    let is_name = |path: &&str| names.iter().any(|(key, _)| *key == name_key(path));
    let mut paths: Vec<&str> = mapping.paths().into_iter().filter(|path| !is_name(path)).collect();
    paths.retain(|path| objects.iter().any(|object| path_exists(object, path)));
    let opened: Vec<String> = paths.iter().filter_map(|path| Some(name_key(path.split_once('.')?.0))).collect();
    let is_kept = |(key, name): &&(String, String)| !opened.contains(key) || mapping.names_column(name);
    let names = names.iter().filter(is_kept).map(|(_, name)| name.clone());
    names.chain(paths.into_iter().map(str::to_owned)).collect()
}

/// Whether an object has a value at a path.
fn path_exists(object: &[u8], path: &str) -> bool {
    json_members(object).unwrap_or_default().into_iter().any(|(name, value)| {
        let key = name_key(&name);
        let inside = path.split_once('.').filter(|(first, _)| name_key(first) == key);
        key == name_key(path) || inside.is_some_and(|(_, inner)| path_exists(value.get().as_bytes(), inner))
    })
}

/// Paths to the missing names, from the object with most of them.
fn paths_to(objects: &[&[u8]], missing: &[String]) -> Vec<String> {
    let mut most = Vec::new();
    for object in objects.iter().take(LOOKED_AT) {
        let mut found = Vec::new();
        collect_paths(object, "", DEPTH, &mut found);
        if found.len() > most.len() {
            most = found;
        }
    }
    let is_missing = |(_, name): &&(String, String)| missing.iter().any(|missing| name_key(missing) == *name);
    most.iter().filter(is_missing).map(|(path, _)| path.clone()).collect()
}

/// Collects the required names of nested objects with their paths, the first of each.
fn collect_paths(object: &[u8], before: &str, depth: usize, found: &mut Vec<(String, String)>) {
    for (name, value) in json_members(object).unwrap_or_default() {
        let (path, key) = (format!("{before}{name}"), name_key(&name));
        let is_wanted = REQUIRED_COLUMNS.contains(&key.as_str()) && !found.iter().any(|(_, known)| *known == key);
        if is_wanted && !before.is_empty() {
            found.push((path.clone(), key));
        }
        if depth > 0 {
            collect_paths(value.get().as_bytes(), &format!("{path}."), depth - 1, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGE: &str = r#"{"schema":{"type":"struct"},"payload":{"op":"c","before":null,"after":{"id":1,"description":"x","amount":"-1.50","timestamp":"2024-03-15T10:00:00Z","operation_type":"card","side":"debit"}}}"#;

    fn read(objects: &[&str], mapping: &str) -> Result<String, String> {
        let mapping = serde_json::from_str(mapping).unwrap();
        let objects = objects.iter().map(|object| object.as_bytes());
        let columns = columns(objects, Some(&mapping)).map_err(|error| error.to_string())?;
        Ok(columns.names().join(","))
    }

    #[test]
    fn a_path_of_the_mapping_replaces_the_object_it_enters() {
        let objects = [
            r#"{"_id":{"$oid":"1"},"Id":"t1","amount":null,"when":{"$date":"x"},"op":"card","side":"d","description":"x"}"#,
            r#"{"id":"t2","amount":{"$numberDecimal":"-1.50"},"memo":"m"}"#,
        ];
        let base = r#""amount":"amount.$numberDecimal","timestamp":"when.$date","operation_type":"op""#;
        let all = "_id,Id,op,side,description,memo,amount.$numberDecimal,when.$date";
        assert_eq!(read(&objects, &format!("{{{base}}}")).as_deref(), Ok(all));
        let kept = read(&objects, &format!(r#"{{{base},"attributes":{{"keep":["*","WHEN"]}}}}"#)).unwrap();
        assert_eq!(kept, "_id,Id,when,op,side,description,memo,amount.$numberDecimal,when.$date");
        let renamed = read(&objects, &format!(r#"{{{base},"attributes":{{"rename":{{"oid":"_id.$oid"}}}}}}"#)).unwrap();
        assert_eq!(renamed, "Id,op,side,description,memo,_id.$oid,amount.$numberDecimal,when.$date");
    }

    #[test]
    fn a_path_without_values_is_rejected() {
        let error = read(&[CHANGE], r#"{"id":"payload.after.key"}"#).unwrap_err();
        assert!(
            error.contains("`payload.after.key` for `id`") && error.contains("2 fields, which look like `AAAAAA`"),
            "{error}"
        );
        let error = read(&[r#"{"id":[{"x":1}]}"#], r#"{"id":"id.x"}"#).unwrap_err();
        assert!(error.contains("`id.x` for `id`"), "elements of arrays have no paths: {error}");
    }

    #[test]
    fn a_name_with_dots_is_no_path() {
        let flat =
            r#"{"a.id":1,"description":"x","amount":1,"timestamp":"t","operation_type":"o","side":"s","a":{"id":2}}"#;
        let names = read(&[flat], r#"{"id":"a.id"}"#).unwrap();
        assert_eq!(names, "a.id,description,amount,timestamp,operation_type,side,a");
    }

    #[test]
    fn missing_names_are_found_in_nested_objects() {
        let error = read(&[r#"{"payload":{"after":null}}"#, CHANGE], "{}").unwrap_err();
        assert_eq!(
            error,
            "the header is not usable: missing required columns `id`, `description`, `amount`, `timestamp`, `operation_type`, `side`; what was read as the header has 2 \
             fields, which look like `AAAAAAA`, `AAAAAA`; objects hold `payload.after.id`, `payload.after.description`, `payload.after.amount`, \
             `payload.after.timestamp`, `payload.after.operation_type`, `payload.after.side`: name them in a mapping"
        );
    }
}
