//! Templates: one text built from several columns of a row.

use serde::{Deserialize, Serialize};

/// Stands for the row number.
const ROW: &str = "row";
/// Precedes the name of a folder in the path.
const PATH: &str = "path:";

/// Text with columns: `{nameOrig}-{step}-{row}`; `{{` and `}}` are literal braces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Template {
    written: String,
    pub(crate) parts: Vec<TemplatePart<String>>,
}

/// A part of a template; a column is a name, or a position once the header is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TemplatePart<C> {
    Text(String),
    Column(C),
    /// The value of a folder in the source's path.
    Path(String),
    Row,
}

impl Template {
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            TemplatePart::Column(name) => Some(name.as_str()),
            TemplatePart::Text(_) | TemplatePart::Row | TemplatePart::Path(_) => None,
        })
    }

    /// The template with path values filled in; plain text if nothing else remains.
    pub(crate) fn resolve<E>(&self, folder: impl Fn(&str) -> Result<String, E>) -> Result<Result<Self, String>, E> {
        let mut parts: Vec<TemplatePart<String>> = Vec::new();
        for part in &self.parts {
            let part = match part {
                TemplatePart::Path(name) => TemplatePart::Text(folder(name)?),
                part => part.clone(),
            };
            match (parts.last_mut(), part) {
                (Some(TemplatePart::Text(before)), TemplatePart::Text(text)) => before.push_str(&text),
                (_, part) => parts.push(part),
            }
        }
        if let [TemplatePart::Text(text)] = &parts[..] {
            return Ok(Err(text.clone()));
        }
        let written = |part: &TemplatePart<String>| match part {
            TemplatePart::Text(text) => text.replace('{', "{{").replace('}', "}}"),
            TemplatePart::Column(name) => format!("{{{name}}}"),
            TemplatePart::Path(name) => format!("{{{PATH}{name}}}"),
            TemplatePart::Row => format!("{{{ROW}}}"),
        };
        Ok(Ok(Self { written: parts.iter().map(written).collect(), parts }))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.written
    }
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(written: String) -> Result<Self, String> {
        let (mut parts, mut text) = (Vec::new(), String::new());
        let mut rest = written.as_str();
        while let Some(at) = rest.find(['{', '}']) {
            text.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(behind) = rest.strip_prefix(brace) {
                text.push_str(brace);
                rest = behind;
                continue;
            }
            if brace == "}" {
                return Err(format!(
                    "in template `{written}` a `}}` closes nothing; write `}}}}` for the brace itself"
                ));
            }
            let (name, behind) = rest.split_once('}').ok_or_else(|| {
                format!("in template `{written}` a `{{` is not closed; write `{{{{` for the brace itself")
            })?;
            let name = name.trim();
            if name.is_empty() {
                return Err(format!("in template `{written}` no column is named between `{{` and `}}`"));
            }
            if !text.is_empty() {
                parts.push(TemplatePart::Text(std::mem::take(&mut text)));
            }
            parts.push(match name.strip_prefix(PATH) {
                _ if name == ROW => TemplatePart::Row,
                Some(folder) => TemplatePart::Path(folder.trim().to_owned()),
                None => TemplatePart::Column(name.to_owned()),
            });
            rest = behind;
        }
        text.push_str(rest);
        if !text.is_empty() {
            parts.push(TemplatePart::Text(text));
        }
        if parts.iter().all(|part| matches!(part, TemplatePart::Text(_))) {
            return Err(format!("template `{written}` names no column; write it as `constant`"));
        }
        Ok(Self { written, parts })
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(written: &str) -> Vec<TemplatePart<String>> {
        Template::try_from(written.to_owned()).unwrap().parts
    }

    #[test]
    fn braces_hold_columns_and_doubled_braces_are_literal() {
        let (text, column) =
            (|text: &str| TemplatePart::Text(text.to_owned()), |name: &str| TemplatePart::Column(name.to_owned()));
        assert_eq!(parts("{nameOrig}-{row}"), [column("nameOrig"), text("-"), TemplatePart::Row]);
        assert_eq!(parts("{{{ a b }}} é {c}"), [text("{"), column("a b"), text("} é "), column("c")]);
        assert_eq!(parts("{a}{b}"), [column("a"), column("b")]);
    }

    #[test]
    fn an_invalid_template_is_rejected_with_a_reason() {
        for (written, expected) in [
            ("{a", "`{` is not closed"),
            ("a}", "`}` closes nothing"),
            ("{}", "no column is named"),
            ("a {{b}}", "names no column"),
            ("", "names no column"),
        ] {
            let error = Template::try_from(written.to_owned()).unwrap_err();
            assert!(error.contains(expected), "{written}: {error}");
        }
    }
}
