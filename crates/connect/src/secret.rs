//! A secret that is the value of a variable, or stands in a file that another variable names.

use std::path::Path;

use crate::{CredentialsError, read_file};

/// Where a secret may come from. Its variable for a file has the same name with `_FILE` behind it.
#[derive(Clone, Copy)]
pub struct Secret<'a> {
    /// The variable that holds the secret itself, such as `AMQP_URL`.
    pub name: &'static str,
    /// What that variable, or its flag, holds.
    pub value: Option<&'a str>,
    /// The file that holds the secret.
    pub file: Option<&'a Path>,
}

impl Secret<'_> {
    /// Whether it is given at all. An empty value is none, as compose files and charts pass on variables that nobody set.
    pub fn is_set(&self) -> bool {
        given(self.value).is_some() || self.file_given().is_some()
    }

    /// The secret, without blanks and line breaks around it; none where none is given.
    pub fn read(self) -> Result<Option<String>, CredentialsError> {
        let Self { name, .. } = self;
        match (given(self.value), self.file_given()) {
            (None, None) => Ok(None),
            (Some(value), None) => Ok(Some(value.to_owned())),
            (Some(_), Some(_)) => Err(CredentialsError(format!("{name} and {name}_FILE are both set: keep one"))),
            (None, Some(path)) => {
                let variable = format!("{name}_FILE");
                let text = String::from_utf8(read_file(path, &variable)?).map_err(|_| {
                    CredentialsError(format!("{} is no text in UTF-8: check {variable}", path.display()))
                })?;
                match given(Some(&text)) {
                    Some(secret) => Ok(Some(secret.to_owned())),
                    None => Err(CredentialsError(format!("{} is empty: check {variable}", path.display()))),
                }
            }
        }
    }

    fn file_given(&self) -> Option<&Path> {
        self.file.filter(|path| !path.as_os_str().is_empty())
    }
}

/// A value without blanks around it, where there is one.
pub fn given(value: Option<&str>) -> Option<&str> {
    value.map(str::trim).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret<'a>(value: Option<&'a str>, file: Option<&'a Path>) -> Secret<'a> {
        Secret { name: "AMQP_URL", value, file }
    }

    fn problem(value: Option<&str>, file: &Path) -> String {
        secret(value, Some(file)).read().unwrap_err().to_string()
    }

    #[test]
    fn a_secret_comes_from_one_place() {
        assert!(!secret(None, None).is_set() && !secret(Some(" "), Some(Path::new(""))).is_set());
        assert_eq!(secret(Some(""), None).read(), Ok(None));
        assert_eq!(secret(Some(" a-secret\n"), None).read(), Ok(Some("a-secret".to_owned())));
        let nowhere = Path::new("/nowhere/at/all");
        assert!(secret(None, Some(nowhere)).is_set());
        assert_eq!(problem(None, nowhere), "cannot read /nowhere/at/all (it does not exist): check AMQP_URL_FILE");
        assert_eq!(problem(Some("a"), nowhere), "AMQP_URL and AMQP_URL_FILE are both set: keep one");
        assert!(problem(None, Path::new("/")).ends_with("check AMQP_URL_FILE"));
    }

    #[test]
    fn a_mounted_file_may_end_with_a_line_break() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "a-secret\n").unwrap();
        assert_eq!(secret(Some(" "), Some(file.path())).read(), Ok(Some("a-secret".to_owned())));
        std::fs::write(file.path(), " \n").unwrap();
        assert!(problem(None, file.path()).ends_with("is empty: check AMQP_URL_FILE"));
        std::fs::write(file.path(), b"\xff\xfesecret").unwrap();
        assert!(problem(None, file.path()).ends_with("is no text in UTF-8: check AMQP_URL_FILE"));
    }
}
