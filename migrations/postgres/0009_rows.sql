-- Rows without an index entry for each: the ledger says which transaction a row is, and summaries say which pages a run's rows are in.

-- "What became of row 4,711?": the id of each row's transaction, 16 bytes in row order, zeros for a row without one. NULL in chunks that
-- were recorded before. Random bytes: compressing them would be in vain.
ALTER TABLE chunks ADD COLUMN ids bytea;
ALTER TABLE chunks ALTER COLUMN ids SET STORAGE EXTERNAL;

-- All rows of a run, and those of older chunks. A row is in one of the two indexes. Rows of files come in bulk, and a summary (BRIN) of
-- each megabyte costs a third of the entries that transactions_rows had. Live rows are few, and would widen the summaries of what is
-- written next to them: they keep their entries. A query finds both by naming both types.
DROP INDEX transactions_rows;
CREATE INDEX transactions_live_rows ON transactions (run_id, row_number) WHERE processing_type = 'streaming';

DO $rows$
DECLARE
    home text := quote_ident(current_schema());
    -- Several runs are in one megabyte, each in its own place: summaries that keep them apart came with PostgreSQL 14.
    keys text := CASE WHEN current_setting('server_version_num')::integer < 140000 THEN 'run_id, row_number'
        ELSE 'run_id text_bloom_ops(n_distinct_per_range = 64), row_number int8_minmax_multi_ops' END;
BEGIN
    EXECUTE format('CREATE INDEX transactions_file_rows ON %s.transactions USING brin (%s) WITH (pages_per_range = 128)
        WHERE processing_type = ''batch''', home, keys);

    -- Summarises what was written since the last call, at most so many summaries; returns whether that was all. Only an owner may do so:
    -- the writers call this. It waits for nobody: whatever is being vacuumed or summarised is left to the next call. The last pages are
    -- left out, as every row that is written under a summary has to change it.
    EXECUTE format($function$
CREATE FUNCTION %1$s.summarise_rows(most integer) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    part    record;
    started bigint;
    at      bigint;
    until   bigint;
BEGIN
    FOR part IN
        SELECT c.oid AS index, c.relfilenode AS file, i.indrelid AS rows,
            substring(array_to_string(c.reloptions, ' ') FROM 'pages_per_range=(\d+)')::bigint AS pages
        FROM (SELECT relid FROM pg_partition_tree(%2$L) UNION SELECT %2$L::regclass) AS tree
            JOIN pg_class c ON c.oid = tree.relid AND c.relkind = 'i' JOIN pg_index i ON i.indexrelid = c.oid
        ORDER BY c.oid
    LOOP
        until := pg_relation_size(part.rows) / current_setting('block_size')::bigint / part.pages - 1;
        SELECT s.ranges INTO at FROM %1$s.row_summaries s WHERE s.index = part.index AND s.file = part.file;
        CONTINUE WHEN until <= coalesce(at, 0);
        BEGIN
            EXECUTE format('LOCK TABLE %%s IN SHARE UPDATE EXCLUSIVE MODE NOWAIT', part.rows::regclass);
        EXCEPTION WHEN lock_not_available THEN
            CONTINUE;
        END;
        -- Another call may have been faster.
        SELECT s.ranges INTO at FROM %1$s.row_summaries s WHERE s.index = part.index AND s.file = part.file;
        at := coalesce(at, 0);
        started := at;
        WHILE at < until AND most > 0 LOOP
            most := most - brin_summarize_range(part.index, at * part.pages);
            at := at + 1;
        END LOOP;
        IF at > started THEN
            INSERT INTO %1$s.row_summaries AS s (index, file, ranges) VALUES (part.index, part.file, at)
                ON CONFLICT (index) DO UPDATE SET file = excluded.file, ranges = excluded.ranges;
        END IF;
        IF at < until THEN
            RETURN false;
        END IF;
    END LOOP;
    RETURN true;
END
$body$
    $function$, home, home || '.transactions_file_rows');
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %s.summarise_rows(integer) FROM PUBLIC', home);
END
$rows$;

-- How many summaries each index has from its beginning on: one for each partition of transactions. An index that was built anew has
-- another file.
CREATE TABLE row_summaries (
    index  oid    PRIMARY KEY,
    file   oid    NOT NULL,
    ranges bigint NOT NULL
);

-- The last megabyte is going to be written to. In a new database that is the first one, and the only one.
SELECT brin_desummarize_range('transactions_file_rows',
    greatest(pg_relation_size('transactions') / current_setting('block_size')::bigint - 1, 0));

-- Roles that store transactions summarise them too. deploy/postgres/roles.sql grants it to assay_writer.
DO $grants$
DECLARE
    writer text;
BEGIN
    FOR writer IN SELECT DISTINCT grantee FROM information_schema.role_table_grants
        WHERE table_schema = current_schema() AND table_name = 'transactions' AND privilege_type = 'INSERT' AND grantee <> 'PUBLIC'
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION summarise_rows(integer) TO %I', writer);
    END LOOP;
END
$grants$;
