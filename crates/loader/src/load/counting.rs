//! Rows before the place where a reader goes on, where ids count equal rows: they are counted, and nothing else.

use assay_source::RowReader;
use assay_transaction::{Mapping, Run};

use crate::LoadError;
use crate::load::judge::Judge;
use crate::load::read::ReadEnd;

/// Rows that are read together.
const ROWS: usize = 5_000;

/// Whether who goes on with a run must read its source from the first row on.
pub(crate) fn counts_equal_rows(run: &Run) -> bool {
    run.settings.mapping.as_deref().is_some_and(Mapping::counts_rows)
}

/// Counts the rows before a row. Ends early where the reading ends for good, or where nobody is to hear of what comes.
pub(crate) async fn count_rows_before(
    reader: &mut RowReader,
    judge: &mut Judge<'_>,
    before: u64,
    is_unheard: impl Fn() -> bool,
) -> Result<Option<ReadEnd>, LoadError> {
    loop {
        let left = before.saturating_sub(reader.position().row);
        if left == 0 {
            return Ok(None);
        }
        if is_unheard() {
            return Ok(Some(ReadEnd::Abandoned));
        }
        let rows = match reader.next_batch(ROWS.min(usize::try_from(left).unwrap_or(ROWS))).await {
            Ok(Some(rows)) => rows,
            Ok(None) => return Ok(None),
            Err(error) if error.is_final() => return Ok(Some(ReadEnd::Broken(error, reader.position()))),
            Err(error) => return Err(error.into()),
        };
        for row in rows.rows() {
            if let Err(error) = judge.count(&row) {
                return Ok(Some(ReadEnd::BudgetSpent(error.to_string())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use assay_source::{FormatOptions, S3Options, SourceUrl, Sources};
    use assay_transaction::{Checkpoint, Namespace, RunSettings};
    use tokio::sync::mpsc;

    use crate::LoadProgress;
    use crate::load::read::tests::run_of;
    use crate::load::read::{ReaderMessage, read};

    const MAPPING: &str = r#"{"id":{"columns":["Date","Payee"]},"description":"Payee","amount":"Amount","timestamp":"Date","operation_type":{"constant":"bank"},"side":{"constant":"debit"},"namespace":"account-1"}"#;

    /// The checkpoints of a file in chunks of two rows, and the ids of the rows from the one before `chunk` on.
    async fn read_from(csv: &str, chunk: usize) -> (Vec<Checkpoint>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, csv).unwrap();
        let sources = Sources::new(&S3Options::default()).unwrap();
        let url = SourceUrl::File(path);
        let found = sources.identify(&url).await.unwrap();
        let options = FormatOptions {
            mapping: Some(Arc::new(serde_json::from_str(MAPPING).unwrap())),
            ..FormatOptions::default()
        };
        let layout = sources.inspect(&url, &found, &options).await.unwrap().layout;
        let standard = RunSettings::standard(Namespace::new("account-1"));
        let settings = layout.freeze(RunSettings { chunk_rows: 2.try_into().unwrap(), ..standard });
        let run = run_of(found.identity.clone(), settings);
        let first = Checkpoint::first(run.settings.start.unwrap());
        let (mut checkpoints, mut ids) = (vec![first], Vec::new());
        for from in [0, chunk] {
            let (sender, mut heard) = mpsc::channel(100);
            let reader = sources.rows(&url, &found, &run.settings, first.at).await.unwrap();
            read(reader, &run, checkpoints[from], None, 3, &LoadProgress::default(), sender).await.unwrap();
            ids.clear();
            while let Some(heard) = heard.recv().await {
                let ReaderMessage::Cut(cut) = heard else { continue };
                ids.extend(cut.chunk.transactions.into_iter().filter_map(|entry| entry.external_id));
                if from == 0 {
                    checkpoints.push(cut.next);
                }
            }
            if chunk == 0 {
                break;
            }
        }
        (checkpoints, ids)
    }

    #[tokio::test]
    async fn a_load_that_goes_on_gives_the_ids_that_it_would_have_given() {
        let row = |payee: &str, amount: &str| format!("2024-03-15 00:00:00,{payee},{amount}\n");
        let rows = [
            row("A", "1"),
            row("A", "1"),
            row("B", "1"),
            row("A", "x"),
            row("A", "1"),
            "2024-03-15 00:00:00,A\n".to_owned(),
            row("B", "1"),
            row("A", "1"),
            row("C", "1"),
        ];
        let csv = format!("Date,Payee,Amount\n{}", rows.concat());
        let (checkpoints, whole) = read_from(&csv, 0).await;
        let ids = ["A", "A|2", "B", "A|4", "B|2", "A|5", "C"].map(|id| format!("2024-03-15 00:00:00|{id}"));
        assert_eq!((checkpoints.len(), &whole[..]), (6, &ids[..]));
        for (chunk, passed) in [(1, 2), (2, 3), (3, 4), (4, 6), (5, 7)] {
            let (_, rest) = read_from(&csv, chunk).await;
            assert_eq!(rest, ids[passed..], "from chunk {chunk}");
        }
    }
}
