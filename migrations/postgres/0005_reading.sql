-- What a run's source holds, and rows that only another reading fits.

ALTER TABLE runs
    -- Of the bytes of the source: one under another name is known by it before its first row is published. NULL where nothing
    -- tells what they are.
    ADD COLUMN fingerprint      text,
    -- Rows before the checkpoint that only another reading than the recognised one fits.
    ADD COLUMN checkpoint_other bigint NOT NULL DEFAULT 0;

-- Whether a run has the content of a new one: … FROM runs WHERE fingerprint = $1.
CREATE INDEX runs_fingerprint ON runs (fingerprint) WHERE fingerprint IS NOT NULL;

-- The runs of a location, before a new one begins; a hash, as a location may be longer than an index takes.
CREATE INDEX runs_location ON runs USING hash (source_location);
