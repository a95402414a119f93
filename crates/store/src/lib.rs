//! The database seam: PostgreSQL and SQLite behind one trait; the ledger.
