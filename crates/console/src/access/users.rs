//! The users of the console: a line each, with the SHA-256 of a token that was made at random.

use std::path::Path;

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::{Role, User, text};
use crate::ConsoleError;

/// Longest name of a user.
const NAME: usize = 64;

/// The users.
#[derive(Debug)]
pub(crate) struct Users(Vec<Entry>);

struct Entry {
    user: User,
    digest: [u8; 32],
}

/// Without the digest: nothing of a secret is logged.
impl std::fmt::Debug for Entry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.user.fmt(formatter)
    }
}

impl Users {
    pub(crate) fn read(path: &Path) -> Result<Self, ConsoleError> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| {
            ConsoleError::Setting(format!("cannot read {shown}: {error}; check CONSOLE_USERS_FILE"))
        })?;
        Self::parse(&text).map_err(|problem| ConsoleError::Setting(format!("CONSOLE_USERS_FILE {shown}: {problem}")))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut users: Vec<Entry> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let entry = parse_line(line).map_err(|problem| format!("line {number}: {problem}"))?;
            if users.iter().any(|other| other.user.name == entry.user.name) {
                return Err(format!("line {number}: this user has a line already"));
            }
            users.push(entry);
        }
        if users.is_empty() {
            return Err("it has no user: a line is `name role sha256`, such as `ada operator 9f86d0…`".to_owned());
        }
        Ok(Self(users))
    }

    /// The user whose token a request has.
    pub(crate) fn find(&self, headers: &HeaderMap) -> Option<User> {
        let (name, token) = credentials(text(headers, header::AUTHORIZATION))?;
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        // Constant time: every digest is compared completely.
        let fits = |entry: &&Entry| {
            let differ = entry.digest.iter().zip(&digest).fold(0, |differ, (one, other)| differ | (one ^ other));
            std::hint::black_box(differ) == 0
        };
        let mut found: Vec<&Entry> = self.0.iter().filter(fits).collect();
        found.retain(|entry| name.is_none() || entry.user.name == name);
        found.first().map(|entry| entry.user.clone())
    }
}

fn parse_line(line: &str) -> Result<Entry, String> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [name, role, digest] = words[..] else {
        return Err("expected three words: name, role and the SHA-256 of the token".to_owned());
    };
    let is_plain = name.len() <= NAME && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
    if !is_plain {
        return Err(format!("a name has at most {NAME} letters, digits and signs, but no colon"));
    }
    let role = [Role::Viewer, Role::Operator, Role::Auditor]
        .into_iter()
        .find(|known| known.to_string() == role)
        .ok_or_else(|| format!("{role:?} is no role: use viewer, operator or auditor"))?;
    let digest = parse_digest(digest).ok_or("the third word is no SHA-256: expected 64 hexadecimal digits")?;
    Ok(Entry { user: User { name: Some(name.to_owned()), role }, digest })
}

fn parse_digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(digest)
}

/// The name, if there is one, and the token of an `Authorization`.
fn credentials(header: &str) -> Option<(Option<String>, String)> {
    let (scheme, given) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some((None, given.trim().to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(given.trim()).ok()?).ok()?;
    let (name, token) = decoded.split_once(':')?;
    Some((Some(name.to_owned()), token.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The SHA-256 of `test`.
    const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn users() -> Users {
        Users::parse(&format!("# team\nada operator {DIGEST}\n\nbob viewer {}\n", DIGEST.replace('9', "8"))).unwrap()
    }

    fn found(authorization: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
        users().find(&headers).and_then(|user| user.name)
    }

    #[test]
    fn a_token_names_its_user() {
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        for (authorization, expected) in [
            ("Bearer test".to_owned(), Some("ada")),
            ("bearer test".to_owned(), Some("ada")),
            (basic("ada:test"), Some("ada")),
            (basic("bob:test"), None),
            (basic("ada:other"), None),
            (basic("ada"), None),
            ("Bearer other".to_owned(), None),
            ("Digest test".to_owned(), None),
            ("Basic !".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(found(&authorization).as_deref(), expected, "{authorization}");
        }
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, expected) in [
            ("", "it has no user"),
            ("ada operator", "line 1: expected three words"),
            ("# x\nada king 0", "line 2: \"king\" is no role"),
            ("ada viewer 12", "line 1: the third word is no SHA-256"),
            (&format!("ada viewer {}", "é".repeat(32)), "line 1: the third word is no SHA-256"),
            (&format!("a:b viewer {DIGEST}"), "line 1: a name has"),
            (&format!("ada viewer {DIGEST}\nada auditor {DIGEST}"), "line 2: this user has a line already"),
        ] {
            let problem = Users::parse(text).unwrap_err();
            assert!(problem.starts_with(expected), "{problem}");
        }
        assert!(!format!("{:?}", users()).contains("9f86"));
    }
}
