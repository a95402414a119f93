-- Creates PostgreSQL roles, one for each program, with exactly the rights that its statements need.
--
-- Run it as a superuser (or a user who may create roles) on Assay's database, before the first `assay migrate` and again
-- after each one: it creates missing roles, and grants rights on new tables. It is safe to repeat.
--
--     psql -v ON_ERROR_STOP=1 -f deploy/postgres/roles.sql "$ADMIN_URL"
--     PGOPTIONS='-c assay.schema=fraud' psql -v ON_ERROR_STOP=1 -f deploy/postgres/roles.sql "$ADMIN_URL"
--
-- The second form is for tables in a schema other than `public` (DATABASE_SCHEMA). A missing schema is created.
--
--     assay_owner      owns the tables: `assay migrate` only
--     assay_loader     loader: begins, leases, checkpoints and seals runs, and counts; reads no transaction content
--     assay_writer     writer: records scored rows
--     assay_streamer   streamer: counts accepted transactions
--     assay_desk       assay cancel, replay, repair, and all read-only commands
--     assay_remover    assay remove: takes a finished run back
--     assay_purger     assay purge: takes content that is older than its time; deletes no transaction
--     assay_eraser     assay erase: deletes everything under given ids. Besides the owner, only remover and eraser delete transactions
--     assay_reader     reports, and the read-only commands `assay runs`, `status`, `row`, `audit`, `failures`, …
--
-- The predictor needs no role: it never connects to a database. New roles have no password, so they cannot log in with one;
-- set it with `\password assay_loader` in psql, which sends no password in the clear, or use certificates. For your own users,
-- such as those that a vault creates for a day, grant the role: CREATE ROLE … LOGIN IN ROLE assay_loader.

BEGIN;

DO $$
DECLARE
    role text;
    target text := coalesce(nullif(current_setting('assay.schema', true), ''), 'public');
BEGIN
    FOREACH role IN ARRAY ARRAY['assay_owner', 'assay_loader', 'assay_writer', 'assay_streamer', 'assay_desk',
        'assay_remover', 'assay_purger', 'assay_eraser', 'assay_reader']
    LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE', role);
        END IF;
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role);
    END LOOP;

    IF to_regnamespace(quote_ident(target)) IS NULL THEN
        EXECUTE format('CREATE SCHEMA %I', target);
    END IF;
    EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO assay_owner', target);
    EXECUTE format(
        'GRANT USAGE ON SCHEMA %I TO assay_loader, assay_writer, assay_streamer, assay_desk, assay_remover, assay_purger, assay_eraser, '
        'assay_reader', target);
    -- Before PostgreSQL 15 every user may create tables in `public`; here only the owner may.
    EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', target);

    -- Roles that read everything can read the tables of later migrations at once. The stages get their rights when this script
    -- runs again.
    EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE assay_owner IN SCHEMA %I GRANT SELECT ON TABLES TO assay_desk, assay_reader',
        target);
END
$$;

-- Rights by role and table. Row locks (FOR UPDATE, FOR KEY SHARE) need the right to update, and ON CONFLICT the right to select.
CREATE TEMPORARY TABLE assay_grants (role text, rights text, tables text) ON COMMIT DROP;
INSERT INTO assay_grants VALUES
    -- At its start, every program checks the version of the tables.
    ('assay_loader, assay_writer, assay_streamer, assay_desk, assay_remover, assay_purger, assay_eraser, assay_reader', 'SELECT',
        '_sqlx_migrations schema_compatibility'),

    ('assay_loader', 'SELECT, INSERT, UPDATE', 'runs'),
    ('assay_loader', 'SELECT', 'chunks live_runs predictions model_endpoints run_models'),
    ('assay_loader', 'INSERT', 'operations'),
    -- To count the outcomes of a run, without the content of its rows.
    ('assay_loader', 'SELECT (id, run_id, row_number)', 'transactions'),
    ('assay_loader', 'SELECT (run_id, row_number, reason)', 'invalid_transactions'),
    ('assay_loader', 'SELECT (run_id, row_number, class)', 'failed_transactions'),
    ('assay_loader', 'SELECT (run_id, outcome, received_at, resolved_at)', 'dead_letters'),

    ('assay_writer', 'SELECT, INSERT, UPDATE', 'runs transactions predictions replay_parts live_runs'),
    ('assay_writer', 'SELECT, INSERT, UPDATE, DELETE', 'chunks failed_transactions'),
    ('assay_writer', 'SELECT, INSERT, DELETE', 'invalid_transactions run_statistics'),
    ('assay_writer', 'SELECT, INSERT, UPDATE', 'dead_letters'),
    ('assay_writer', 'SELECT, INSERT', 'live_messages row_history model_endpoints run_models'),
    ('assay_writer', 'INSERT', 'operations transaction_history'),
    ('assay_writer', 'SELECT', 'replays live_counts erasure_key erased_ids'),

    ('assay_streamer', 'SELECT, INSERT', 'runs live_runs'),
    ('assay_streamer', 'SELECT, INSERT, UPDATE', 'live_counts'),
    ('assay_streamer', 'SELECT', 'transactions predictions model_endpoints failed_transactions'),
    ('assay_streamer', 'SELECT (transaction_id)', 'transaction_history'),

    ('assay_desk', 'SELECT, UPDATE', 'runs dead_letters'),
    ('assay_desk', 'SELECT, INSERT', 'operations replays'),
    ('assay_remover', 'SELECT, UPDATE', 'runs live_runs chunks dead_letters'),
    ('assay_remover', 'SELECT, UPDATE, DELETE', 'transactions transaction_history'),
    ('assay_remover', 'SELECT, INSERT, UPDATE, DELETE', 'predictions'),
    ('assay_remover', 'SELECT, INSERT, UPDATE', 'failed_transactions'),
    ('assay_remover', 'SELECT, DELETE', 'invalid_transactions row_history run_statistics'),
    ('assay_remover', 'SELECT', 'replay_parts'),
    ('assay_remover', 'INSERT', 'operations'),

    -- An operation counts what it takes; nobody changes who did it, or why.
    ('assay_purger, assay_eraser', 'SELECT, INSERT, UPDATE (details)', 'operations'),
    ('assay_purger', 'SELECT', 'runs'),
    ('assay_purger', 'SELECT, UPDATE (ids)', 'chunks'),
    ('assay_purger', 'SELECT, DELETE', 'invalid_transactions row_history live_messages erased_ids'),
    ('assay_purger', 'SELECT, INSERT, UPDATE', 'failed_transactions'),
    ('assay_purger', 'SELECT, UPDATE (body, operation)', 'dead_letters'),
    ('assay_purger', 'SELECT, UPDATE (transaction, prediction)', 'transaction_history'),
    ('assay_eraser', 'SELECT', 'runs live_runs erasure_key'),
    ('assay_eraser', 'SELECT, INSERT', 'erased_ids'),
    ('assay_eraser', 'SELECT, UPDATE (ids, predicted, duplicate_rows)', 'chunks'),
    ('assay_eraser', 'SELECT, INSERT, UPDATE', 'failed_transactions'),
    ('assay_eraser', 'SELECT, DELETE', 'transactions predictions transaction_history row_history invalid_transactions live_messages'),
    ('assay_eraser', 'SELECT, UPDATE (body, message_id, operation)', 'dead_letters'),

    ('assay_desk, assay_reader', 'SELECT',
        'runs chunks transactions predictions transaction_history invalid_transactions failed_transactions dead_letters
         operations replays replay_parts row_history live_runs live_messages live_counts model_endpoints run_models
         run_statistics');

DO $$
DECLARE
    target text := coalesce(nullif(current_setting('assay.schema', true), ''), 'public');
    entry record;
    stage text;
BEGIN
    IF to_regclass(format('%I._sqlx_migrations', target)) IS NULL THEN
        RAISE NOTICE 'schema % has no tables of Assay yet: run `assay migrate` as assay_owner, then this script again', target;
        RETURN;
    END IF;
    -- Rights of an earlier version of this script that this one does not grant.
    FOREACH stage IN ARRAY ARRAY['assay_loader', 'assay_writer', 'assay_streamer', 'assay_desk', 'assay_remover',
        'assay_purger', 'assay_eraser', 'assay_reader'] LOOP
        FOR entry IN SELECT DISTINCT regexp_split_to_table(tables, '\s+') AS name FROM assay_grants LOOP
            IF to_regclass(format('%I.%I', target, entry.name)) IS NOT NULL THEN
                EXECUTE format('REVOKE ALL ON %I.%I FROM %I', target, entry.name, stage);
            END IF;
        END LOOP;
    END LOOP;
    FOR entry IN SELECT role, rights, regexp_split_to_table(tables, '\s+') AS name FROM assay_grants LOOP
        IF to_regclass(format('%I.%I', target, entry.name)) IS NULL THEN
            RAISE NOTICE 'table %.% does not exist yet: run `assay migrate`, then this script again', target, entry.name;
        ELSE
            EXECUTE format('GRANT %s ON %I.%I TO %s', entry.rights, target, entry.name, entry.role);
        END IF;
    END LOOP;
    -- Only an owner may summarise rows: the function does it for the writers.
    IF to_regprocedure(format('%I.summarise_rows(integer)', target)) IS NOT NULL THEN
        EXECUTE format('REVOKE ALL ON FUNCTION %I.summarise_rows(integer) FROM PUBLIC, assay_loader, assay_writer, assay_streamer,
            assay_desk, assay_remover, assay_purger, assay_eraser, assay_reader', target);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %I.summarise_rows(integer) TO assay_writer', target);
    END IF;
END
$$;

COMMIT;
