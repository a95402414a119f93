//! `assay generate` as a program of its own: `cargo run --release -p assay-generator --example generate`.

use std::fs::File;
use std::io::{self, Write};

use assay_generator::{GenerateOptions, GenerateSummary, generate};
use clap::Parser;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    options: GenerateOptions,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Command { options } = Command::parse();
    let out: Box<dyn Write> = match &options.output {
        Some(path) => Box::new(File::create(path)?),
        None => Box::new(io::stdout().lock()),
    };
    let mut manifest = options.manifest.as_ref().map(File::create).transpose()?;
    let GenerateSummary { rows, invalid, duplicates, fraud } =
        generate(&options, out, manifest.as_mut().map(|file| file as &mut dyn Write))?;
    writeln!(io::stderr(), "{rows} rows: {invalid} invalid, {duplicates} duplicates, {fraud} labelled as fraud")?;
    Ok(())
}
