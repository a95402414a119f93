-- Retention and erasure: what a purge or an erasure left, and which transactions must not come back.

-- The operation that took the content of a tombstone, or the body of a letter: … FROM operations WHERE id = operation.
ALTER TABLE failed_transactions ADD COLUMN operation bigint;
ALTER TABLE dead_letters ADD COLUMN operation bigint;

-- The tombstones of a run by operation: … FROM failed_transactions WHERE run_id = $1 AND operation IS NOT NULL.
CREATE INDEX failed_transactions_operation ON failed_transactions (run_id, operation) WHERE operation IS NOT NULL;

-- One row. Whoever reads erased_ids cannot test a guessed id without it, and it is read by writers and erasers alone.
CREATE TABLE erasure_key (
    key uuid NOT NULL
);
INSERT INTO erasure_key VALUES (gen_random_uuid());
CREATE UNIQUE INDEX erasure_key_row ON erasure_key ((true));

-- Transactions that writers refuse: the UUIDv5 of each id in the namespace of the key, so that no id can be read from it.
CREATE TABLE erased_ids (
    digest    uuid   PRIMARY KEY,
    operation bigint NOT NULL
);

-- Only those who store transactions look for erased ones, whatever rights others get on new tables. deploy/postgres/roles.sql grants the
-- same.
DO $grants$
DECLARE
    reader text;
    writer text;
BEGIN
    FOR reader IN SELECT DISTINCT grantee FROM information_schema.role_table_grants
        WHERE table_schema = current_schema() AND table_name IN ('erasure_key', 'erased_ids')
            AND grantee NOT IN ('PUBLIC', current_user)
    LOOP
        EXECUTE format('REVOKE ALL ON erasure_key, erased_ids FROM %I', reader);
    END LOOP;
    FOR writer IN SELECT DISTINCT grantee FROM information_schema.role_table_grants
        WHERE table_schema = current_schema() AND table_name = 'transactions' AND privilege_type = 'INSERT' AND grantee <> 'PUBLIC'
    LOOP
        EXECUTE format('GRANT SELECT ON erasure_key, erased_ids TO %I', writer);
    END LOOP;
END
$grants$;
