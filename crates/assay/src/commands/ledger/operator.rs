//! Who acts, where nobody says so: the user as the system knows it. Containers and schedulers set no `USER`.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

/// The name of the user of this process, else `uid 1000 on HOST`, else `unknown`.
pub(crate) fn of_system() -> String {
    // The folder of this process belongs to its user.
    let Ok(user) = fs::metadata("/proc/self").map(|metadata| metadata.uid()) else { return "unknown".to_owned() };
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name(user, &users, host.trim())
}

/// The name of a user among those of `/etc/passwd`.
fn name(user: u32, users: &str, host: &str) -> String {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
        (id.parse() == Ok(user) && !name.is_empty()).then(|| name.to_owned())
    };
    let on = if host.is_empty() { String::new() } else { format!(" on {host}") };
    users.lines().find_map(entry).unwrap_or_else(|| format!("uid {user}{on}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_a_name_or_a_number() {
        let users = "root:x:0:0:root:/root:/bin/sh\nbroken\n:x:7:7::/:\nada:x:1000:1000::/home/ada:/bin/sh\n";
        for (user, host, expected) in
            [(0, "box", "root"), (1000, "box", "ada"), (7, "box", "uid 7 on box"), (65_532, "", "uid 65532")]
        {
            assert_eq!(name(user, users, host), expected);
        }
        assert_ne!(of_system(), "");
    }
}
