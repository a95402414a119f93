-- Makes `transactions` and `predictions` of an empty database partitioned tables, by a hash of their keys: for hundreds of millions of
-- rows, so that each index, each vacuum and each disk has a part. Right behind `assay migrate`, before any grant, as the owner:
--
--     psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f deploy/postgres/partitions.sql
--
-- 64 parts, or what is said by PGOPTIONS='-c assay.partitions=128'. In another schema than the first of the search path:
-- PGOPTIONS='-c search_path=assay'. By the key and not by time, as an id is to be unique for good: what is known is told by it, and
-- PostgreSQL's unique keys hold within a part alone unless the key decides which part it is.

BEGIN;

DO $partitions$
DECLARE
    parts     bigint := coalesce(nullif(current_setting('assay.partitions', true), ''), '64')::bigint;
    parted    record;
    statement text;
    indexes   text[];
BEGIN
    LOCK TABLE transactions, predictions IN ACCESS EXCLUSIVE MODE;
    IF EXISTS (SELECT FROM transactions) OR EXISTS (SELECT FROM predictions) THEN
        RAISE EXCEPTION 'transactions or predictions have rows: this is for an empty database'
            USING HINT = 'make a new database, and bring the rows over by loading their sources again';
    END IF;
    IF EXISTS (SELECT FROM pg_partitioned_table WHERE partrelid IN ('transactions'::regclass, 'predictions'::regclass)) THEN
        RAISE NOTICE 'the tables are partitioned already: nothing was changed';
        RETURN;
    END IF;
    FOR parted IN SELECT * FROM (VALUES ('transactions', 'id'), ('predictions', 'transaction_id')) AS of (name, key) LOOP
        -- Indexes beside the primary key, as migrations have made them.
        SELECT array_agg(pg_get_indexdef(indexrelid)) INTO indexes FROM pg_index
            WHERE indrelid = parted.name::regclass AND NOT indisprimary;
        EXECUTE format('ALTER TABLE %I RENAME TO %I', parted.name, parted.name || '_plain');
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS) PARTITION BY HASH (%I)',
            parted.name, parted.name || '_plain', parted.key);
        EXECUTE format('DROP TABLE %I', parted.name || '_plain');
        EXECUTE format('ALTER TABLE %I ADD PRIMARY KEY (%I)', parted.name, parted.key);
        FOREACH statement IN ARRAY coalesce(indexes, '{}') LOOP
            EXECUTE statement;
        END LOOP;
        FOR part IN 0..parts - 1 LOOP
            EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES WITH (MODULUS %s, REMAINDER %s)',
                parted.name || '_' || part, parted.name, parts, part);
        END LOOP;
    END LOOP;
END
$partitions$;

COMMIT;
