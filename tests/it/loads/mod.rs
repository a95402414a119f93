//! Batch loads: what each file leaves in the database, in the output and in the logs.

mod complete;
mod failed_before;
mod generated;
mod invalid_rows;
mod mapping;
mod old_job_tables;
mod one_process;
mod repeated;
mod several_sources;
mod unusable_sources;
