-- See migrations/postgres/0008_identities.sql.

ALTER TABLE schema_compatibility ADD COLUMN ids INTEGER NOT NULL DEFAULT 5 CHECK (ids IN (5, 8));
CREATE UNIQUE INDEX schema_compatibility_row ON schema_compatibility ((1));

UPDATE schema_compatibility SET ids = 8, oldest_version = 8
WHERE NOT EXISTS (SELECT 1 FROM runs) AND NOT EXISTS (SELECT 1 FROM transactions);

CREATE TRIGGER runs_follow_id_scheme_8 BEFORE INSERT ON runs
WHEN (SELECT ids FROM schema_compatibility) = 8 AND coalesce(json_extract(NEW.settings, '$.ids'), 5) <> 8
BEGIN
    SELECT RAISE(ABORT, 'the ids of this database follow scheme 8: update the program');
END;
