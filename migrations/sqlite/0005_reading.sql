-- See migrations/postgres/0005_reading.sql.

ALTER TABLE runs ADD COLUMN fingerprint TEXT;
ALTER TABLE runs ADD COLUMN checkpoint_other INTEGER NOT NULL DEFAULT 0;

CREATE INDEX runs_fingerprint ON runs (fingerprint) WHERE fingerprint IS NOT NULL;
CREATE INDEX runs_location ON runs (source_location);
