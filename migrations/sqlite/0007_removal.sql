-- See migrations/postgres/0007_removal.sql.

ALTER TABLE runs ADD COLUMN removal_at TEXT;
ALTER TABLE runs ADD COLUMN removal_by TEXT;
ALTER TABLE runs ADD COLUMN removal_reason TEXT;
ALTER TABLE runs ADD COLUMN removed_at TEXT;

CREATE INDEX chunks_duplicates ON chunks (run_id, chunk) WHERE duplicate_rows IS NOT NULL;
CREATE INDEX transaction_history_run ON transaction_history (replaced_by_run, transaction_id);

CREATE TABLE row_history (
    run_id      TEXT    NOT NULL,
    row_number  INTEGER NOT NULL,
    replay      INTEGER NOT NULL,
    class       TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    attempts    INTEGER NOT NULL,
    replayed_at TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    PRIMARY KEY (run_id, row_number, replay)
) STRICT, WITHOUT ROWID;
