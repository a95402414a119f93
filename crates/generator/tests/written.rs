//! The output of `generate`, read back with a CSV reader and checked by the loader's rules.

use std::collections::{BTreeMap, HashSet};

use assay_generator::{
    DatasetLayout, GenerateError, GenerateOptions, GenerateSummary, InvalidKinds, Quoting, Transactions, generate,
};
use assay_transaction::{
    Columns, DecimalMark, Delimiter, Dialect, Encoding, RejectReason, Rules, RunSettings, TimeZone,
};

/// A file, its manifest and its summary.
struct GeneratedFile {
    file: Vec<u8>,
    manifest: Vec<ManifestRow>,
    summary: GenerateSummary,
}

/// A row of the manifest.
struct ManifestRow {
    row: u64,
    outcome: String,
    reason: String,
    id: String,
    label: String,
}

fn write(options: &GenerateOptions) -> GeneratedFile {
    let (mut file, mut manifest) = (Vec::new(), Vec::new());
    let summary = generate(options, &mut file, Some(&mut manifest)).unwrap();
    let manifest = csv::Reader::from_reader(&manifest[..])
        .records()
        .map(|record| {
            let [row, outcome, reason, id, label] =
                std::array::from_fn(|index| record.as_ref().unwrap()[index].to_owned());
            ManifestRow { row: row.parse().unwrap(), outcome, reason, id, label }
        })
        .collect();
    GeneratedFile { file, manifest, summary }
}

fn dialect(options: &GenerateOptions) -> Dialect {
    Dialect { delimiter: options.delimiter, decimal_mark: options.decimal_mark, encoding: options.encoding }
}

/// Calls back with each row's fields and bytes.
fn for_each_row(options: &GenerateOptions, file: &[u8], mut each: impl FnMut(usize, &Columns, &[&[u8]], &[u8])) {
    let file = file.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(file);
    let mut reader = csv::ReaderBuilder::new().delimiter(options.delimiter.byte()).flexible(true).from_reader(file);
    let header: Vec<Vec<u8>> = reader.byte_headers().unwrap().iter().map(<[u8]>::to_vec).collect();
    let header: Vec<&[u8]> = header.iter().map(Vec::as_slice).collect();
    let columns = Columns::from_header(&header[..], dialect(options), None).unwrap();
    let mut record = csv::ByteRecord::new();
    let mut index = 0;
    loop {
        let start = usize::try_from(reader.position().byte()).unwrap();
        if !reader.read_byte_record(&mut record).unwrap() {
            break;
        }
        let end = usize::try_from(reader.position().byte()).unwrap();
        let fields: Vec<&[u8]> = record.iter().collect();
        each(index, &columns, &fields, &file[start..end]);
        index += 1;
    }
}

/// Reads the file like a run in this time zone, and compares each row with the manifest.
fn check(options: &GenerateOptions, written: &GeneratedFile, time_zone: TimeZone) {
    let settings = RunSettings { dialect: dialect(options), time_zone, ..RunSettings::example() };
    let mut rows = 0;
    for_each_row(options, &written.file, |index, columns, fields, raw| {
        let expected = &written.manifest[index];
        assert_eq!(expected.row, index as u64 + 1);
        match Rules::new(columns.clone(), &settings).check(index as u64 + 1, fields, raw.len()) {
            Ok(valid) => {
                assert_ne!(expected.outcome, "invalid", "{options:?}: row {} is valid", expected.row);
                let id = valid.external_id.unwrap_or_else(|| valid.transaction.id.to_string());
                assert_eq!(id, expected.id, "row {}", expected.row);
                if options.labels {
                    assert_eq!(valid.transaction.attributes["is_fraud"], expected.label);
                }
            }
            Err(rejection) => assert_eq!(
                (expected.outcome.as_str(), expected.reason.as_str()),
                ("invalid", rejection.reason.code()),
                "{options:?}: row {}: {}",
                expected.row,
                rejection.message
            ),
        }
        rows += 1;
    });
    assert_eq!((rows, written.manifest.len() as u64), (options.rows, options.rows), "{options:?}");
}

fn every_dialect() -> impl Iterator<Item = GenerateOptions> {
    let encodings = [Encoding::UTF_8, Encoding::WINDOWS_1252];
    let quotings = [Quoting::Text, Quoting::Needed, Quoting::All];
    let mut dialects = Vec::new();
    for delimiter in Delimiter::ALL {
        for decimal_mark in [DecimalMark::Point, DecimalMark::Comma] {
            for encoding in encodings {
                for quoting in quotings {
                    for flag in [false, true] {
                        let bom = flag && encoding == Encoding::UTF_8;
                        let base = GenerateOptions { crlf: flag, bom, uuid_ids: flag, ..GenerateOptions::default() };
                        let base = GenerateOptions { attributes: flag, labels: !flag, ..base };
                        dialects.push(GenerateOptions { delimiter, decimal_mark, encoding, quoting, ..base });
                    }
                }
            }
        }
    }
    dialects.into_iter()
}

#[test]
fn in_every_dialect_each_row_has_its_expected_outcome() {
    for dialect in every_dialect() {
        let options = GenerateOptions { rows: 600, invalid: 0.3, duplicates: 0.1, ..dialect };
        check(&options, &write(&options), TimeZone::UTC);
    }
}

#[test]
fn the_fields_are_those_of_the_transactions() {
    for dialect in every_dialect() {
        let options = GenerateOptions { rows: 300, ..dialect };
        let transactions: Vec<_> = Transactions::new(options.seed, options.uuid_ids).take(300).collect();
        let settings = RunSettings { dialect: self::dialect(&options), ..RunSettings::example() };
        for_each_row(&options, &write(&options).file, |index, columns, fields, raw| {
            let read =
                Rules::new(columns.clone(), &settings).check(index as u64 + 1, fields, raw.len()).unwrap().transaction;
            let made = &transactions[index];
            assert_eq!((&read.description, &*read.operation_type), (&made.description, made.operation_type));
            assert_eq!((read.merchant.as_deref(), &*read.side), (made.merchant, made.side));
            let (units, hundredths) = (made.amount_cents.abs() / 100, made.amount_cents.abs() % 100);
            let sign = if made.amount_cents < 0 { "-" } else { "" };
            assert_eq!(read.amount.to_string(), format!("{sign}{units}.{hundredths:02}"));
            assert_eq!(read.timestamp.as_datetime().naive_utc(), made.timestamp);
            if options.attributes {
                let attributes = ["country", "currency", "channel"].map(|name| read.attributes[name].as_str());
                assert_eq!(attributes, [made.country, made.currency, made.channel]);
            }
        });
    }
}

#[test]
fn every_possible_reason_is_generated() {
    let all = GenerateOptions { rows: 4_000, invalid: 1.0, invalid_kinds: InvalidKinds::ALL, ..Default::default() };
    let written = write(&all);
    check(&all, &written, TimeZone::UTC);
    let mut found: HashSet<&str> = written.manifest.iter().map(|row| row.reason.as_str()).collect();
    let large = written.manifest.iter().filter(|row| row.reason == "row_too_large").count();
    assert!(large < 60, "{large} rows of over 256 KiB");

    let gap = GenerateOptions { invalid: 0.5, invalid_kinds: "timestamp_gap".parse().unwrap(), ..all.clone() };
    let written = write(&gap);
    check(&gap, &written, "Europe/Paris".parse().unwrap());
    found.extend(written.manifest.iter().map(|row| row.reason.as_str()).filter(|reason| !reason.is_empty()));

    // A quote that never closes may meet one of another row; the rest needs other formats, several headers, a mapping,
    // an unknown decimal mark or named time zones.
    found.extend([
        "unterminated_quote",
        "quote_malformed",
        "json_format",
        "value_unknown",
        "header_repeated",
        "amount_twice",
        "amount_sign",
        "amount_mark",
        "timestamp_zone",
    ]);
    let known: HashSet<&str> = RejectReason::ALL.iter().map(RejectReason::code).collect();
    assert_eq!(found, known);
}

#[test]
fn chosen_kinds_are_generated() {
    let kinds = "amount_scale,field_count";
    let options =
        GenerateOptions { rows: 500, invalid: 1.0, invalid_kinds: kinds.parse().unwrap(), ..Default::default() };
    let found: HashSet<String> = write(&options).manifest.into_iter().map(|row| row.reason).collect();
    assert_eq!(found, ["amount_scale", "field_count"].map(str::to_owned).into());
}

#[test]
fn the_shares_are_met_and_counted() {
    let options = GenerateOptions { rows: 50_000, invalid: 0.04, duplicates: 0.02, ..Default::default() };
    let written = write(&options);
    let GenerateSummary { rows, invalid, duplicates, fraud } = written.summary;
    assert_eq!(rows, 50_000);
    assert!((1_800..2_200).contains(&invalid), "{invalid} invalid");
    assert!((880..1_120).contains(&duplicates), "{duplicates} duplicates");
    assert!((1_000..1_500).contains(&fraud), "{fraud} fraud");
    let count = |wanted: &str| written.manifest.iter().filter(|row| row.outcome == wanted).count() as u64;
    assert_eq!((count("invalid"), count("duplicate")), (invalid, duplicates));
    assert_eq!(written.manifest.iter().filter(|row| row.label == "1").count() as u64, fraud);
}

#[test]
fn a_duplicate_is_one_of_the_thousand_valid_rows_before_it_to_the_byte() {
    let options = GenerateOptions { rows: 20_000, invalid: 0.1, duplicates: 0.2, ..Default::default() };
    let written = write(&options);
    let mut valid: Vec<Vec<u8>> = Vec::new();
    let mut position: BTreeMap<&str, usize> = BTreeMap::new();
    let mut furthest = 0;
    for_each_row(&options, &written.file, |index, _, _, raw| {
        let expected = &written.manifest[index];
        match expected.outcome.as_str() {
            "valid" => {
                position.insert(&expected.id, valid.len());
                valid.push(raw.to_vec());
            }
            "duplicate" => {
                let original = position[expected.id.as_str()];
                assert_eq!(valid[original], raw, "row {}", expected.row);
                furthest = furthest.max(valid.len() - original);
            }
            _ => {}
        }
    });
    assert!((900..=1_000).contains(&furthest), "a duplicate reaches back {furthest} rows");
}

#[test]
fn labels_and_attributes_only_add_columns() {
    let plain = GenerateOptions { rows: 500, invalid: 0.0, duplicates: 0.1, ..Default::default() };
    let expected = String::from_utf8(write(&plain).file).unwrap();
    for (labels, attributes, more) in [(true, false, 1), (false, true, 3), (true, true, 4)] {
        let file = write(&GenerateOptions { labels, attributes, ..plain.clone() }).file;
        let cut: String = String::from_utf8(file)
            .unwrap()
            .lines()
            .map(|line| line.rsplitn(more + 1, ';').last().unwrap().to_owned() + "\n")
            .collect();
        assert_eq!(cut, expected);
    }
}

#[test]
fn faults_leave_other_rows_unchanged() {
    let without = GenerateOptions { rows: 2_000, ..Default::default() };
    let with = GenerateOptions { invalid: 0.1, ..without.clone() };
    let (without, manifest, with) = (write(&without).file, write(&with).manifest, write(&with).file);
    let lines = |file: &[u8]| file.split(|byte| *byte == b'\n').skip(1).map(<[u8]>::to_vec).collect::<Vec<_>>();
    for ((clean, broken), expected) in lines(&without).iter().zip(lines(&with)).zip(&manifest) {
        assert_eq!(*clean == broken, expected.outcome == "valid", "row {}", expected.row);
    }
}

#[test]
fn each_seed_is_one_file() {
    let options = GenerateOptions { rows: 300, invalid: 0.1, duplicates: 0.1, ..Default::default() };
    let file = write(&options).file;
    assert_eq!(file, write(&options).file);
    assert_ne!(file, write(&GenerateOptions { seed: 2, ..options }).file);
}

/// The bytes of a seed are a promise: changing them changes every figure measured on them.
#[test]
fn the_first_rows_of_seed_1_are_pinned() {
    let options = GenerateOptions {
        rows: 12,
        invalid: 0.1,
        duplicates: 0.1,
        uuid_ids: true,
        attributes: true,
        labels: true,
        ..Default::default()
    };
    insta::assert_snapshot!(String::from_utf8(write(&options).file).unwrap());
}

/// The example comes from the command in the crate's documentation.
#[test]
fn the_example_is_what_its_command_writes() {
    let kinds = "field_count,id_empty,description_empty,amount_empty,amount_format,amount_not_finite,amount_scale,\
                 amount_range,timestamp_empty,timestamp_format,operation_type_empty,side_empty";
    let options = GenerateOptions {
        rows: 10_000,
        invalid: 0.01,
        invalid_kinds: kinds.parse().unwrap(),
        duplicates: 0.005,
        ..Default::default()
    };
    let example = include_bytes!("../../../examples/transactions.csv");
    assert!(write(&options).file == example, "examples/transactions.csv is out of date; run its command again");
}

/// So do the other examples; their manifests give the mapped id of each row.
#[test]
fn the_examples_of_other_layouts_are_what_their_commands_write() {
    let examples = [
        (DatasetLayout::Paysim, &include_bytes!("../../../examples/paysim/transactions.csv")[..]),
        (DatasetLayout::Sparkov, include_bytes!("../../../examples/sparkov/transactions.csv")),
    ];
    for (layout, example) in examples {
        let options = GenerateOptions { rows: 300, layout: Some(layout), ..Default::default() };
        let written = write(&options);
        assert!(written.file == example, "the example of {layout:?} is out of date; run its command again");
        let ids: HashSet<&str> = written.manifest.iter().map(|row| row.id.as_str()).collect();
        assert_eq!((ids.len(), written.summary.rows), (300, 300));
        assert!(written.summary.fraud > 0, "a label to be dropped");
    }
}

#[test]
fn no_rows_give_only_a_header() {
    let options = GenerateOptions { rows: 0, bom: true, crlf: true, ..Default::default() };
    let header = "\u{FEFF}id;description;amount;timestamp;merchant;operation_type;side\r\n";
    assert_eq!(String::from_utf8(write(&options).file).unwrap(), header);
}

#[test]
fn contradictory_options_are_rejected() {
    let cases = [
        (GenerateOptions { invalid: 0.7, duplicates: 0.6, ..Default::default() }, "--duplicates 0.6"),
        (GenerateOptions { invalid: f64::NAN, ..Default::default() }, "at most 1"),
        (GenerateOptions { bom: true, encoding: Encoding::WINDOWS_1252, ..Default::default() }, "--bom"),
    ];
    for (options, expected) in cases {
        let mut file = Vec::new();
        let error = generate(&options, &mut file, None).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(file.is_empty());
    }
}

/// A disk that is full from the start.
struct FullDisk;

impl std::io::Write for FullDisk {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_an_error_even_at_the_last_row() {
    let options = GenerateOptions { rows: 3, ..Default::default() };
    assert!(matches!(generate(&options, FullDisk, None), Err(GenerateError::Output(_))));
    assert!(matches!(generate(&options, Vec::new(), Some(&mut FullDisk)), Err(GenerateError::Manifest(_))));
}
