//! The writer: scored chunks become rows in the database.
