-- How ids that are no UUIDs become the keys of transactions. All programs of a database must agree on it for good, as two schemes
-- would store one transaction twice.

ALTER TABLE schema_compatibility
    -- The version of those UUIDs: 5, a hash, in no order; or 8, in the order of ids that end in a number.
    ADD COLUMN ids smallint NOT NULL DEFAULT 5 CHECK (ids IN (5, 8));

-- One row, also after a dump was restored into these tables: the second one would be another scheme.
CREATE UNIQUE INDEX schema_compatibility_row ON schema_compatibility ((true));

-- 8 where nothing is stored and no run has begun, else 5 for ever. A program that does not know scheme 8 refuses the tables when it
-- starts. One that is running, and rows of an old dump, are refused by the check.
DO $$
BEGIN
    IF EXISTS (SELECT FROM runs) OR EXISTS (SELECT FROM transactions) THEN
        RETURN;
    END IF;
    LOCK TABLE runs, transactions IN ACCESS EXCLUSIVE MODE;
    -- Others may have written until the lock was granted.
    IF EXISTS (SELECT FROM runs) OR EXISTS (SELECT FROM transactions) THEN
        RETURN;
    END IF;
    UPDATE schema_compatibility SET ids = 8, oldest_version = 8;
    ALTER TABLE runs ADD CONSTRAINT runs_follow_id_scheme_8 CHECK (coalesce(settings->>'ids', '5') = '8');
END
$$;
