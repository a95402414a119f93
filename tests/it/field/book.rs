//! The cases of `tests/field/cases.toml`, with their files in a folder.

use std::collections::BTreeMap;
use std::path::Path;

use assay_transaction::Encoding;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Book {
    case: Vec<Case>,
}

/// Files, and what must come of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) name: String,
    #[serde(default)]
    files: BTreeMap<String, String>,
    #[serde(default)]
    hex: BTreeMap<String, String>,
    encoding: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    steps: Vec<Step>,
    pub(super) expect: Expect,
}

/// One command of several.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    /// What is loaded, by name.
    #[serde(default)]
    pub(super) load: Vec<String>,
    /// Or a line for the shell, in which `$LOAD` loads.
    pub(super) shell: Option<String>,
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    pub(super) exit: Option<i32>,
    #[serde(default)]
    pub(super) says: Vec<String>,
}

/// What must hold in the end.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Expect {
    pub(super) exit: Choice,
    pub(super) predicted: Choice,
    pub(super) invalid: Choice,
    pub(super) failed: Choice,
    pub(super) duplicate: Choice,
    pub(super) values: Vec<BTreeMap<String, String>>,
    pub(super) never: Vec<BTreeMap<String, String>>,
    pub(super) says: Vec<String>,
    pub(super) any: Vec<Expect>,
}

/// A number, or several that are right; any is where there is none.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(untagged)]
pub(super) enum Choice {
    #[default]
    Any,
    One(i64),
    Several(Vec<i64>),
}

impl Choice {
    pub(super) fn takes(&self, number: i64) -> bool {
        match self {
            Self::Any => true,
            Self::One(only) => *only == number,
            Self::Several(several) => several.contains(&number),
        }
    }
}

/// All cases, each with a number of its own in its texts.
pub(super) fn cases() -> Vec<(usize, Case)> {
    let book: Book = toml::from_str(include_str!("../../field/cases.toml")).expect("the cases are TOML");
    (1..).zip(book.case).collect()
}

impl Case {
    /// Puts its files into a folder.
    pub(super) fn place(&self, number: usize, folder: &Path) {
        let encoding = self.encoding.as_deref().unwrap_or("utf-8");
        for (name, text) in &self.files {
            let text = expand(text, number);
            write(folder, name, &if is_mapping(name) { text.into_bytes() } else { encode(&text, encoding) });
        }
        for (name, hex) in &self.hex {
            let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            write(folder, name, &digits.chunks(2).map(byte).collect::<Vec<_>>());
        }
    }

    /// What is done with them.
    pub(super) fn steps(&self, number: usize) -> Vec<Step> {
        let mut steps = self.steps.clone();
        if steps.is_empty() {
            let names = self.files.keys().chain(self.hex.keys());
            let load = names.filter(|name| !is_mapping(name)).cloned().collect();
            steps.push(Step { load, ..Step::default() });
        }
        for step in &mut steps {
            for (name, value) in &self.env {
                step.env.entry(name.clone()).or_insert_with(|| value.clone());
            }
            step.env.values_mut().chain(&mut step.says).for_each(|text| *text = expand(text, number));
        }
        steps
    }
}

fn is_mapping(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "toml")
}

fn expand(text: &str, number: usize) -> String {
    let columns = "id,description,amount,timestamp,merchant,operation_type,side";
    let tail = "M§,card,debit";
    text.replace("{header}", columns)
        .replace("{header;}", &columns.replace(',', ";"))
        .replace("{tail}", tail)
        .replace("{tail;}", &tail.replace(',', ";"))
        .replace('§', &number.to_string())
}

fn encode(text: &str, encoding: &str) -> Vec<u8> {
    match encoding {
        "utf-16le" => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        "utf-16be" => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        label => Encoding::of(label).expect("a label").encode(text).expect("the text is one of the encoding"),
    }
}

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}
