//! `scripts/bench`: measures the real programs on a real PostgreSQL and RabbitMQ and an S3 server, beside what those
//! services do by themselves in the same run, and demands the law of every run that it measured.
//!
//! One module for each measurement: [`end_to_end`], [`baseline`], [`stages`], [`scale_out`], [`start_up`]. What they are
//! made of: a [`fleet`] of programs, one [`load`] through it, and the [`usage`] of each process. The [`report`] keeps what they say.

mod baseline;
mod copy;
mod durability;
mod end_to_end;
mod fleet;
mod load;
mod machine;
mod options;
mod report;
mod scale_out;
mod source;
mod stages;
mod start_up;
mod usage;

use clap::Parser as _;

use crate::options::{Measurement, Options};
use crate::report::Report;
use crate::source::Sources;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let options = Options::parse().sized();
    let mut report = Report::default();
    report.section("Machine", &machine::described());
    report.section("PostgreSQL", &durability::demanded().await);
    let mut sources = Sources::new();
    for measurement in options.measurements() {
        match measurement {
            Measurement::EndToEnd => end_to_end::measure(&options, &mut sources, &mut report, true).await,
            Measurement::Baseline => baseline::measure(&options, &mut sources, &mut report).await,
            Measurement::Stages => stages::measure(&options, &mut sources, &mut report).await,
            Measurement::ScaleOut => scale_out::measure(&options, &mut sources, &mut report).await,
            Measurement::Memory => end_to_end::measure(&options, &mut sources, &mut report, false).await,
            Measurement::StartUp => start_up::measure(&options, &mut sources, &mut report).await,
        }
    }
    report.conclude(options.output.as_deref())
}
