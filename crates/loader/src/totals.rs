//! Control totals of a source: from the command line, a manifest next to the source, or its trailer row. Frozen when a run
//! begins, compared when it ends.

use assay_source::{SourceError, SourceUrl, Sources};
use assay_transaction::{
    AmountSum, Checkpoint, ExpectedTotals, Format, RunSettings, SealedTotals, TrailerPattern, json_problem,
};
use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::AsyncReadExt as _;

use crate::LoadError;

const MAX_MANIFEST_BYTES: u64 = 64 * 1024;

/// Control totals of a source. If they differ, its run fails and keeps its rows.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Control totals")]
pub struct TotalsOptions {
    /// Expected data rows of the source, whatever their outcomes
    #[arg(long, env = "EXPECT_ROWS", value_name = "ROWS")]
    pub expect_rows: Option<u64>,
    /// Expected sum of all readable amounts, such as -1234.50; those of rejected rows count
    #[arg(long, env = "EXPECT_AMOUNT", value_name = "SUM", allow_negative_numbers = true)]
    pub expect_amount: Option<AmountSum>,
    /// Suffix of the JSON file next to the source with the totals, such as .manifest.json: {"rows": 5000, "amount": "123.45"}
    #[arg(long = "manifest", env = "MANIFEST_SUFFIX", value_name = "SUFFIX")]
    pub manifest_suffix: Option<String>,
    /// Pattern of the last CSV row, with the totals, such as 'TRAILER;{rows};{amount}'; or of the first row of a footer, such as
    /// 'Balance as of *'
    #[arg(long, env = "TRAILER", value_name = "PATTERN")]
    pub trailer: Option<TrailerPattern>,
}

/// A manifest. Other keys are ignored.
#[derive(Deserialize)]
struct TotalsManifest<'a> {
    rows: Option<u64>,
    /// A string, or a number that must not become a float.
    #[serde(borrow)]
    amount: Option<&'a RawValue>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TrailerFound {
    /// No trailer is expected.
    NotAsked,
    /// No row is the trailer.
    Missing,
    Totals(ExpectedTotals),
    /// It is wrong, for this reason.
    Wrong(String),
}

impl TrailerFound {
    /// Whether a row was the trailer, even if it is wrong.
    pub(crate) fn is_found(&self) -> bool {
        !matches!(self, Self::NotAsked | Self::Missing)
    }
}

impl TotalsOptions {
    /// Freezes the totals of a new run. Command-line values override the manifest.
    pub(crate) async fn freeze(
        &self,
        sources: &Sources,
        url: &SourceUrl,
        settings: RunSettings,
    ) -> Result<RunSettings, LoadError> {
        if self.trailer.is_some() && settings.format != Format::Csv {
            let format = settings.format.name();
            let reason = format!("TRAILER is for CSV, but {url} is {format}: omit it, or use a manifest");
            return Err(SourceError::Setting(reason).into());
        }
        let given = ExpectedTotals { rows: self.expect_rows, amount: self.expect_amount };
        let expected = match self.suffix() {
            Some(suffix) => given.or(manifest(sources, &next_to(url, suffix)?).await?),
            None => given,
        };
        Ok(RunSettings { expected, trailer: self.trailer.clone(), ..settings })
    }

    /// Whether a source is the manifest of another.
    pub(crate) fn is_manifest(&self, url: &SourceUrl) -> bool {
        self.suffix().is_some_and(|suffix| url.to_string().ends_with(suffix))
    }

    fn suffix(&self) -> Option<&str> {
        self.manifest_suffix.as_deref().filter(|suffix| !suffix.is_empty())
    }
}

fn next_to(url: &SourceUrl, suffix: &str) -> Result<SourceUrl, SourceError> {
    Ok(match url {
        SourceUrl::S3 { bucket, key } => SourceUrl::S3 { bucket: bucket.clone(), key: format!("{key}{suffix}") },
        SourceUrl::File(path) => {
            let mut path = path.clone().into_os_string();
            path.push(suffix);
            SourceUrl::File(path.into())
        }
        SourceUrl::Descriptor(_) => {
            let reason = format!(
                "MANIFEST_SUFFIX names a file next to the source, and {url} has none: omit it, or set EXPECT_ROWS and \
                 EXPECT_AMOUNT"
            );
            return Err(SourceError::Setting(reason));
        }
    })
}

async fn manifest(sources: &Sources, url: &SourceUrl) -> Result<ExpectedTotals, LoadError> {
    let unusable = |cause: String| LoadError::Manifest { location: url.to_string(), cause };
    let read = async {
        let found = sources.identify(url).await?;
        let mut text = String::new();
        sources.open(url, &found.identity, 0).await?.take(MAX_MANIFEST_BYTES).read_to_string(&mut text).await?;
        Ok::<_, SourceError>(text)
    };
    let text = match read.await {
        Ok(text) => text,
        Err(error) if error.exit() == assay_transaction::Exit::DependencyUnavailable => return Err(error.into()),
        Err(SourceError::File { cause, .. }) => return Err(unusable(cause)),
        Err(SourceError::NoObject { .. }) => return Err(unusable("there is no such object".to_owned())),
        Err(error) => return Err(unusable(error.to_string())),
    };
    read_manifest(&text).map_err(unusable)
}

fn read_manifest(text: &str) -> Result<ExpectedTotals, String> {
    let TotalsManifest { rows, amount } = serde_json::from_str(text).map_err(|error| json_problem(&error))?;
    let amount = amount.map(|amount| amount.get().trim_matches('"').parse::<AmountSum>()).transpose();
    let amount = amount.map_err(|error| format!("its `amount` {error}"))?;
    let expected = ExpectedTotals { rows, amount };
    if expected.is_nothing() { Err("it has neither `rows` nor `amount`".to_owned()) } else { Ok(expected) }
}

/// How a completely read source differs from its control totals, if it does.
pub(crate) fn differences(settings: &RunSettings, at: Checkpoint, trailer: &TrailerFound) -> Option<String> {
    let read = SealedTotals::at(at);
    let expected = match trailer {
        TrailerFound::NotAsked => settings.expected,
        TrailerFound::Totals(totals) => match totals.differences(read) {
            Some(differences) => return Some(format!("control totals differ: {differences}")),
            None => settings.expected,
        },
        TrailerFound::Missing => {
            let pattern = settings.trailer.as_ref().map_or("", TrailerPattern::as_str);
            let what = if settings.trailer.as_ref().is_some_and(TrailerPattern::is_footer) {
                "the footer is"
            } else {
                "control totals are"
            };
            return Some(format!("{what} missing: no row is the trailer `{pattern}`"));
        }
        TrailerFound::Wrong(why) if settings.trailer.as_ref().is_some_and(TrailerPattern::is_footer) => {
            return Some(format!("the footer is not the end: {why}"));
        }
        TrailerFound::Wrong(why) => return Some(format!("control totals are missing: {why}")),
    };
    expected.differences(read).map(|differences| format!("control totals differ: {differences}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_has_rows_or_an_amount() {
        let amount = |text: &str| text.parse::<AmountSum>().ok();
        let cases = [
            (
                r#"{"rows": 5000, "amount": "123.45"}"#,
                Ok(ExpectedTotals { rows: Some(5_000), amount: amount("123.45") }),
            ),
            (r#"{"amount": 0.1, "file": "a.csv"}"#, Ok(ExpectedTotals { rows: None, amount: amount("0.1") })),
            (r#"{"rows": 0}"#, Ok(ExpectedTotals { rows: Some(0), amount: None })),
            ("{}", Err("it has neither `rows` nor `amount`")),
            (r#"{"amount": "1,5"}"#, Err("its `amount` is not a decimal number")),
            (r#"{"rows": "7"}"#, Err("expected u64 at line 1 column 12")),
        ];
        for (text, expected) in cases {
            assert_eq!(read_manifest(text), expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn a_manifest_is_next_to_its_source() {
        for (url, expected) in [("s3://b/a/x.csv", "s3://b/a/x.csv.manifest"), ("/a/x.csv", "/a/x.csv.manifest")] {
            assert_eq!(next_to(&url.parse().unwrap(), ".manifest").unwrap().to_string(), expected);
        }
        let error = next_to(&"-".parse().unwrap(), ".manifest").unwrap_err().to_string();
        assert!(error.contains("stdin has none: omit it, or set EXPECT_ROWS"), "{error}");
    }
}
