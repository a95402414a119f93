//! Logs, exit codes, shutdown signals: what every program of Assay shares.
