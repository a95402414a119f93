-- See migrations/postgres/0002_operations.sql.

ALTER TABLE runs ADD COLUMN stop_kind TEXT CHECK (stop_kind IN ('cancelled', 'aborted'));
ALTER TABLE runs ADD COLUMN stop_reason TEXT;
ALTER TABLE runs ADD COLUMN stop_at TEXT;
ALTER TABLE runs ADD COLUMN source_bytes INTEGER;

CREATE INDEX runs_open ON runs (run_id) WHERE finished_at IS NULL;
CREATE INDEX chunks_rows ON chunks (run_id, first_row);
CREATE INDEX transactions_rows ON transactions (run_id, row_number);
DROP INDEX transactions_run;
CREATE INDEX failed_transactions_id ON failed_transactions (transaction_id);
CREATE INDEX transaction_history_id ON transaction_history (transaction_id);

ALTER TABLE dead_letters ADD COLUMN key TEXT;
ALTER TABLE dead_letters ADD COLUMN outcome TEXT NOT NULL DEFAULT 'unreadable'
    CHECK (outcome IN ('booked', 'known', 'unreadable', 'refused'));
ALTER TABLE dead_letters ADD COLUMN resolved_at TEXT;
CREATE UNIQUE INDEX dead_letters_key ON dead_letters (key);
CREATE INDEX dead_letters_run ON dead_letters (run_id);

CREATE TABLE replays (
    run_id   TEXT    NOT NULL,
    replay   INTEGER NOT NULL,
    began_at TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    PRIMARY KEY (run_id, replay)
) STRICT, WITHOUT ROWID;

CREATE TABLE replay_parts (
    run_id      TEXT    NOT NULL,
    replay      INTEGER NOT NULL,
    part        INTEGER NOT NULL,
    stored      INTEGER NOT NULL,
    failed      INTEGER NOT NULL,
    gone        INTEGER NOT NULL,
    recorded_at TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    PRIMARY KEY (run_id, replay, part)
) STRICT, WITHOUT ROWID;
