//! `scripts/bench`: measures the real programs on a real PostgreSQL, RabbitMQ and S3 server, compares them with baselines of
//! the same run, and audits every measured run.
//!
//! Each measurement has a module: [`end_to_end`], [`baseline`], [`stages`], [`scale_out`], [`start_up`], [`growth`], [`console`], [`peers`]. They
//! share a [`fleet`] of programs, one [`load`] through it, and the [`usage`] of each process. The [`report`] collects the results.

mod baseline;
mod console;
mod copy;
mod durability;
mod end_to_end;
mod fleet;
mod growth;
mod load;
mod machine;
mod options;
mod peers;
mod report;
mod scale_out;
mod source;
mod stages;
mod start_up;
mod usage;

use clap::Parser as _;

use crate::options::{Measurement, Options};
use crate::report::Report;
use crate::source::SourceFiles;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let options = Options::parse().sized();
    let mut report = Report::default();
    report.section("Machine", &machine::describe());
    report.section("PostgreSQL", &durability::check_durability().await);
    let mut sources = SourceFiles::new();
    for measurement in options.measurements() {
        match measurement {
            Measurement::EndToEnd => end_to_end::measure(&options, &mut sources, &mut report, true).await,
            Measurement::Baseline => baseline::measure(&options, &mut sources, &mut report).await,
            Measurement::Stages => stages::measure(&options, &mut sources, &mut report).await,
            Measurement::ScaleOut => scale_out::measure(&options, &mut sources, &mut report).await,
            Measurement::Memory => end_to_end::measure(&options, &mut sources, &mut report, false).await,
            Measurement::StartUp => start_up::measure(&options, &mut sources, &mut report).await,
            Measurement::Growth => growth::measure(&options, &mut sources, &mut report).await,
            Measurement::Console => console::measure(&options, &mut sources, &mut report).await,
            Measurement::Peers => peers::measure(&options, &mut sources, &mut report).await,
        }
    }
    report.conclude(options.output.as_deref())
}
