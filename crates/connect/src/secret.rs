//! Secrets: the value of a variable, or the content of a file that another variable names.

use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use crate::{SettingError, read_file};

/// Where a secret comes from. The variable for its file has the same name with the suffix `_FILE`.
#[derive(Clone, Copy)]
pub struct SecretSource<'a> {
    /// The variable that holds the secret itself, such as `AMQP_URL`.
    pub name: &'static str,
    /// The value of that variable, or of its flag.
    pub value: Option<&'a SecretString>,
    /// The file that holds the secret.
    pub file: Option<&'a Path>,
}

impl SecretSource<'_> {
    /// Whether it is set. An empty value counts as unset, as compose files and charts pass on unset variables.
    pub fn is_set(&self) -> bool {
        self.non_blank_value().is_some() || self.non_empty_file().is_some()
    }

    /// The secret, without surrounding white space; none if it is not set.
    pub fn read(self) -> Result<Option<SecretString>, SettingError> {
        let Self { name, .. } = self;
        match (self.non_blank_value(), self.non_empty_file()) {
            (None, None) => Ok(None),
            (Some(value), None) => Ok(Some(value.into())),
            (Some(_), Some(_)) => Err(SettingError(format!("{name} and {name}_FILE are both set: keep one"))),
            (None, Some(path)) => {
                let variable = format!("{name}_FILE");
                let text = String::from_utf8(read_file(path, &variable)?)
                    .map_err(|_| SettingError(format!("{} is not UTF-8 text: check {variable}", path.display())))?;
                let text = SecretString::from(text);
                match non_blank(Some(text.expose_secret())) {
                    Some(secret) => Ok(Some(secret.into())),
                    None => Err(SettingError(format!("{} is empty: check {variable}", path.display()))),
                }
            }
        }
    }

    fn non_blank_value(&self) -> Option<&str> {
        non_blank(self.value.map(ExposeSecret::expose_secret))
    }

    fn non_empty_file(&self) -> Option<&Path> {
        self.file.filter(|path| !path.as_os_str().is_empty())
    }
}

/// A value without surrounding white space; none if nothing is left.
pub fn non_blank(value: Option<&str>) -> Option<&str> {
    value.map(str::trim).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Option<&str>, file: Option<&Path>) -> Result<Option<String>, String> {
        let value = value.map(SecretString::from);
        let source = SecretSource { name: "AMQP_URL", value: value.as_ref(), file };
        let is_set = source.is_set();
        let read = source.read().map_err(|error| error.to_string())?;
        assert_eq!(is_set, read.is_some());
        Ok(read.map(|secret| secret.expose_secret().to_owned()))
    }

    fn problem(value: Option<&str>, file: &Path) -> String {
        read(value, Some(file)).unwrap_err()
    }

    #[test]
    fn a_secret_comes_from_one_place() {
        assert_eq!(read(None, None), Ok(None));
        assert_eq!(read(Some(" "), Some(Path::new(""))), Ok(None));
        assert_eq!(read(Some(" a-secret\n"), None), Ok(Some("a-secret".to_owned())));
        let nowhere = Path::new("/nowhere/at/all");
        assert_eq!(problem(None, nowhere), "cannot read /nowhere/at/all (it does not exist): check AMQP_URL_FILE");
        assert_eq!(problem(Some("a"), nowhere), "AMQP_URL and AMQP_URL_FILE are both set: keep one");
        assert!(problem(None, Path::new("/")).ends_with("check AMQP_URL_FILE"));
    }

    #[test]
    fn a_mounted_file_may_end_with_a_line_break() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "a-secret\n").unwrap();
        assert_eq!(read(Some(" "), Some(file.path())), Ok(Some("a-secret".to_owned())));
        std::fs::write(file.path(), " \n").unwrap();
        assert!(problem(None, file.path()).ends_with("is empty: check AMQP_URL_FILE"));
        std::fs::write(file.path(), b"\xff\xfesecret").unwrap();
        assert!(problem(None, file.path()).ends_with("is not UTF-8 text: check AMQP_URL_FILE"));
    }
}
