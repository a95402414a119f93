//! Checking rows by the rules: `cargo bench -p assay-transaction`.

use std::hint::black_box;

use assay_transaction::{Columns, DecimalMark, Delimiter, Dialect, Encoding, IdScheme, Namespace, Rules, RunSettings};
use divan::Bencher;
use divan::counter::ItemsCount;

const DIALECT: Dialect =
    Dialect { delimiter: Delimiter::Semicolon, decimal_mark: DecimalMark::Comma, encoding: Encoding::UTF_8 };
const HEADER: &str = "id;description;amount;timestamp;merchant;operation_type;side;country;channel";

fn main() {
    divan::main();
}

/// Rows as banks write them.
fn rows() -> Vec<Vec<String>> {
    let row = |number: u32| {
        let text = format!(
            "{number};Card expense at Boulangerie du Marché;-{},{:02};2023-11-28 06:35:12;EDF;refund;debit;FR;web",
            number % 1000,
            number % 100
        );
        text.split(';').map(str::to_owned).collect()
    };
    (0..10_000).map(row).collect()
}

/// Columns with our names.
#[divan::bench]
fn plain(bencher: Bencher<'_, '_>) {
    let rows = rows();
    let rows: Vec<Vec<&[u8]>> = rows.iter().map(|row| row.iter().map(String::as_bytes).collect()).collect();
    let settings = RunSettings { dialect: DIALECT, ..RunSettings::example() };
    let rules = Rules::new(
        Columns::from_names(HEADER.split(';').map(str::to_owned).collect(), None).expect("a header"),
        &settings,
    );
    bencher
        .counter(ItemsCount::new(rows.len()))
        .bench_local(|| rows.iter().filter(|fields| black_box(rules.check(1, &fields[..], 100)).is_ok()).count());
}

/// Ids that end in a number, by both schemes.
#[divan::bench(args = [5, 8])]
fn identities(bencher: Bencher<'_, '_>, scheme: u8) {
    let (namespace, scheme) = (Namespace::new("example"), IdScheme::try_from(scheme).expect("a scheme"));
    let ids: Vec<String> = (0..10_000).map(|number| format!("TX-2026-{number:08}")).collect();
    bencher.counter(ItemsCount::new(ids.len())).bench_local(|| {
        for id in &ids {
            black_box(namespace.identify(scheme, black_box(id)));
        }
    });
}
