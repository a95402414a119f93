-- Partitions `transactions` and `predictions` of an empty database by a hash of their keys, for hundreds of millions of rows: each index,
-- vacuum and disk then has a part of them. Run it as the owner, directly after `assay migrate` and before any grant:
--
--     psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f deploy/postgres/partitions.sql
--
-- The default is 64 partitions; PGOPTIONS='-c assay.partitions=128' sets another number. For a schema other than the first of the search
-- path: PGOPTIONS='-c search_path=assay'. The partition key is the id and not the time, because ids must stay unique forever, and PostgreSQL
-- enforces a unique key across partitions only if it contains the partition key.

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
            USING HINT = 'create a new database, and load the sources of the rows into it';
    END IF;
    IF EXISTS (SELECT FROM pg_partitioned_table WHERE partrelid IN ('transactions'::regclass, 'predictions'::regclass)) THEN
        RAISE NOTICE 'the tables are partitioned already: nothing was changed';
        RETURN;
    END IF;
    FOR parted IN SELECT * FROM (VALUES ('transactions', 'id'), ('predictions', 'transaction_id')) AS of (name, key) LOOP
        -- The migrations' indexes, except the primary key.
        SELECT array_agg(pg_get_indexdef(indexrelid)) INTO indexes FROM pg_index
            WHERE indrelid = parted.name::regclass AND NOT indisprimary;
        EXECUTE format('ALTER TABLE %I RENAME TO %I', parted.name, parted.name || '_plain');
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS) PARTITION BY HASH (%I)',
            parted.name, parted.name || '_plain', parted.key);
        EXECUTE format('DROP TABLE %I', parted.name || '_plain');
        EXECUTE format('ALTER TABLE %I ADD PRIMARY KEY (%I)', parted.name, parted.key);
        FOREACH statement IN ARRAY coalesce(indexes, '{}') LOOP
            -- Rows of one chunk are in all partitions: each is searched for a row, and in fewer pages.
            EXECUTE replace(statement, 'pages_per_range=''128''', 'pages_per_range=''32''');
        END LOOP;
        FOR part IN 0..parts - 1 LOOP
            EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES WITH (MODULUS %s, REMAINDER %s)',
                parted.name || '_' || part, parted.name, parts, part);
        END LOOP;
    END LOOP;
    -- The first pages are written to next, and a row that is written under a summary has to change it.
    PERFORM brin_desummarize_range(relid, 0) FROM pg_partition_tree('transactions_file_rows') WHERE isleaf;
END
$partitions$;

COMMIT;
