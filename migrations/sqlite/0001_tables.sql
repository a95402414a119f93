-- The tables of Assay in SQLite, for `assay run` alone: those of PostgreSQL, with amounts, times, ids and JSON as text. Where
-- nothing else is said, see migrations/postgres/0001_tables.sql.
--
-- Times are ISO 8601 in UTC, which SQLite's DATE() and the like understand, and which sort as they are.

CREATE TABLE runs (
    run_id            TEXT    PRIMARY KEY,
    source_location   TEXT    NOT NULL,
    source_version    TEXT    NOT NULL,
    source_key        TEXT    UNIQUE,
    state             TEXT    NOT NULL DEFAULT 'loading'
        CHECK (state IN ('loading', 'sealed', 'complete', 'failed', 'cancelled')),
    settings          TEXT    NOT NULL,
    checkpoint_chunk  INTEGER NOT NULL DEFAULT 0,
    checkpoint_row    INTEGER NOT NULL DEFAULT 1,
    checkpoint_line   INTEGER NOT NULL DEFAULT 1,
    checkpoint_offset INTEGER NOT NULL DEFAULT 0,
    rows_read         INTEGER,
    chunks_total      INTEGER,
    error             TEXT,
    started_at        TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    finished_at       TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE chunks (
    run_id         TEXT    NOT NULL,
    chunk          INTEGER NOT NULL,
    first_row      INTEGER NOT NULL,
    rows           INTEGER NOT NULL,
    predicted      INTEGER NOT NULL,
    duplicate_rows TEXT,
    recorded_at    TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    PRIMARY KEY (run_id, chunk)
) STRICT, WITHOUT ROWID;

CREATE TABLE transactions (
    id              TEXT    PRIMARY KEY,
    external_id     TEXT,
    description     TEXT    NOT NULL,
    amount          TEXT    NOT NULL,
    "timestamp"     TEXT    NOT NULL,
    merchant        TEXT,
    operation_type  TEXT    NOT NULL,
    side            TEXT    NOT NULL,
    attributes      TEXT,
    run_id          TEXT    NOT NULL,
    row_number      INTEGER NOT NULL,
    processing_type TEXT    NOT NULL CHECK (processing_type IN ('batch', 'streaming')),
    created_at      TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT;

-- The tally of a run, and its counts by prediction: … FROM transactions WHERE run_id = $1.
CREATE INDEX transactions_run ON transactions (run_id);

CREATE TABLE predictions (
    transaction_id TEXT PRIMARY KEY,
    prediction     TEXT NOT NULL,
    fraud_score    REAL CHECK (fraud_score BETWEEN 0 AND 1),
    model_version  TEXT,
    run_id         TEXT NOT NULL,
    predicted_at   TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE transaction_history (
    id              INTEGER PRIMARY KEY,
    transaction_id  TEXT    NOT NULL,
    "transaction"   TEXT    NOT NULL,
    prediction      TEXT,
    replaced_at     TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    replaced_by_run TEXT    NOT NULL,
    replaced_by_row INTEGER NOT NULL
) STRICT;

CREATE TABLE invalid_transactions (
    run_id     TEXT    NOT NULL,
    row_number INTEGER NOT NULL,
    line       INTEGER NOT NULL,
    reason     TEXT    NOT NULL,
    message    TEXT    NOT NULL,
    raw        BLOB    NOT NULL,
    PRIMARY KEY (run_id, row_number)
) STRICT;

CREATE TABLE failed_transactions (
    run_id         TEXT    NOT NULL,
    row_number     INTEGER NOT NULL,
    transaction_id TEXT    NOT NULL,
    class          TEXT    NOT NULL,
    reason         TEXT    NOT NULL,
    attempts       INTEGER NOT NULL,
    payload        BLOB    NOT NULL,
    PRIMARY KEY (run_id, row_number)
) STRICT;

CREATE TABLE dead_letters (
    id           INTEGER PRIMARY KEY,
    queue        TEXT    NOT NULL,
    message_id   TEXT,
    message_type TEXT,
    run_id       TEXT,
    reason       TEXT    NOT NULL,
    attempt      INTEGER NOT NULL,
    body         BLOB    NOT NULL,
    received_at  TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT;

CREATE TABLE operations (
    id       INTEGER PRIMARY KEY,
    operator TEXT    NOT NULL,
    action   TEXT    NOT NULL,
    run_id   TEXT,
    reason   TEXT,
    details  TEXT,
    done_at  TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT;

CREATE TABLE schema_compatibility (
    oldest_version INTEGER NOT NULL
) STRICT;
INSERT INTO schema_compatibility VALUES (1);
