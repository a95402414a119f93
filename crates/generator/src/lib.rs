//! Realistic transactions as CSV, with planted fraud, invalid rows and duplicates.
