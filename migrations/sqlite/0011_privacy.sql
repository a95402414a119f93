-- See migrations/postgres/0011_privacy.sql.

ALTER TABLE failed_transactions ADD COLUMN operation INTEGER;
ALTER TABLE dead_letters ADD COLUMN operation INTEGER;

CREATE INDEX failed_transactions_operation ON failed_transactions (run_id, operation) WHERE operation IS NOT NULL;

CREATE TABLE erasure_key (
    key TEXT NOT NULL
) STRICT;
INSERT INTO erasure_key VALUES (lower(hex(randomblob(16))));
CREATE UNIQUE INDEX erasure_key_row ON erasure_key ((1));

CREATE TABLE erased_ids (
    digest    TEXT    NOT NULL PRIMARY KEY,
    operation INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
