-- Copies the `transactions` and `predictions` of the old job into Assay's tables, as a finished run. The old tables
-- are only read. Everything is one database transaction; an existing run of this name stays unchanged.
--
--     DATABASE_SCHEMA=assay assay migrate
--     PGOPTIONS='-c assay.schema=assay -c assay.old_schema=public' \
--         psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f deploy/from-the-old-job/copy.sql
--     DATABASE_SCHEMA=assay assay audit old_job
--
-- Settings, each given in PGOPTIONS, or by SET in the same session:
--
--     assay.schema        assay      schema of Assay's tables: its DATABASE_SCHEMA
--     assay.old_schema    public     schema of the old tables
--     assay.run_id        old_job    name of the run
--     assay.time_zone     UTC        time zone of a `timestamp` column without one
--     assay.id_namespace             ID_NAMESPACE of future loads; only for ids that are not UUIDs, which become a UUID of it and
--                                    the id, by the scheme of Assay's tables. UUIDv5, which a namespace that is no UUID takes too,
--                                    needs the extension uuid-ossp
--
-- Required columns, of any type that casts: transactions (id, description, amount, timestamp, operation_type, side); predictions
-- (transaction_id, prediction). Optional: merchant, processing_type and created_at of transactions; fraud_score (or
-- confidence_score, score, probability), model_version and predicted_at (or created_at) of predictions. If a transaction has several
-- predictions, the latest counts. Every further column of transactions is kept under `attributes`.
--
-- Each row gets the outcome that a load would give it: predicted; duplicate, if Assay has it with the same content; invalid, if it
-- breaks a rule; failed as `id_conflict`, if Assay has it with other content, and as `suspect`, if the old job has no prediction for
-- it: `assay replay old_job --class suspect` scores those.

BEGIN ISOLATION LEVEL REPEATABLE READ;

DO $copy$
DECLARE
    chunk_rows  CONSTANT bigint := 1000;
    number      CONSTANT text := '^[-+]?[0-9]+([.][0-9]*)?([eE][-+]?[0-9]{1,3})?$';
    uuid_form   CONSTANT text := '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$';
    target      text := coalesce(nullif(current_setting('assay.schema', true), ''), 'assay');
    origin      text := coalesce(nullif(current_setting('assay.old_schema', true), ''), 'public');
    run         text := coalesce(nullif(current_setting('assay.run_id', true), ''), 'old_job');
    zone        text := coalesce(nullif(current_setting('assay.time_zone', true), ''), 'UTC');
    space       text := nullif(current_setting('assay.id_namespace', true), '');
    has         text[];   -- the columns of the old transactions
    answers     text[];   -- the columns of the old predictions
    missing     text;
    score       text;
    answered_at text;
    extension   text;
    space_id    uuid;
    scheme      integer;  -- how ids become UUIDs in Assay's tables: 5 or 8
    bad         bigint;
    read_rows   bigint;
    chunks      bigint;
    counts      record;
BEGIN
    -- Check the assumptions before any change.
    IF run !~ '^[A-Za-z0-9_-]{1,64}$' THEN
        RAISE EXCEPTION 'assay.run_id is %: a run id has 1 to 64 letters, digits, _ or -', run;
    END IF;
    IF target = origin THEN
        RAISE EXCEPTION 'assay.schema and assay.old_schema are both %: Assay needs a schema of its own', target;
    END IF;
    IF to_regclass(format('%I.schema_compatibility', target)) IS NULL THEN
        RAISE EXCEPTION 'schema % has no tables of Assay', target
            USING HINT = format('run DATABASE_SCHEMA=%s assay migrate, or set assay.schema', target);
    END IF;
    SELECT array_agg(column_name::text ORDER BY ordinal_position) INTO has
        FROM information_schema.columns WHERE table_schema = origin AND table_name = 'transactions';
    SELECT array_agg(column_name::text ORDER BY ordinal_position) INTO answers
        FROM information_schema.columns WHERE table_schema = origin AND table_name = 'predictions';
    SELECT string_agg(wanted, ', ') INTO missing FROM (
        SELECT 'transactions.' || name AS wanted
            FROM unnest('{id,description,amount,timestamp,operation_type,side}'::text[]) AS name
            WHERE NOT name = ANY (coalesce(has, '{}'))
        UNION ALL
        SELECT 'predictions.' || name FROM unnest('{transaction_id,prediction}'::text[]) AS name
            WHERE NOT name = ANY (coalesce(answers, '{}'))
    ) AS lacking;
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'schema % does not fit this script: it lacks %', origin, missing
            USING HINT = 'set assay.old_schema, or make views with these names and columns in another schema and set that';
    END IF;

    EXECUTE format('SET LOCAL search_path TO %I, pg_catalog, pg_temp', target);
    SET LOCAL DateStyle TO ISO;
    IF EXISTS (SELECT FROM runs WHERE run_id = run) THEN
        RAISE NOTICE 'run % exists already: nothing was changed; set another assay.run_id to copy again', run;
        RETURN;
    END IF;

    -- Tables of an earlier version name no scheme, and follow the first.
    SELECT coalesce((to_jsonb(known) ->> 'ids')::integer, 5) INTO scheme FROM schema_compatibility AS known;

    -- The identity of an id that ends in a number, as crates/transaction/src/run/ordered_id.rs makes it: 14 digits in 48 bits, then
    -- SHA-256 over namespace and id. None for other ids, and for digits that may be a card number (13 to 19, with the check digit).
    CREATE OR REPLACE FUNCTION pg_temp.ordered_id(space uuid, id text) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT AS $ordered$
        SELECT CASE
            WHEN digits = '' THEN NULL
            WHEN length(digits) BETWEEN 13 AND 19 AND (
                SELECT sum(CASE WHEN place % 2 = 1 THEN digit ELSE digit * 2 / 10 + digit * 2 % 10 END) % 10 = 0
                FROM (SELECT place, substr(reverse(digits), place, 1)::integer AS digit
                    FROM generate_series(1, length(digits)) AS place) AS each
            ) THEN NULL
            ELSE (lpad(to_hex(right(digits, 14)::bigint), 12, '0') || '8' || substr(hash, 2, 3)
                || translate(substr(hash, 5, 1), '0123456789abcdef', '89ab89ab89ab89ab') || substr(hash, 6, 15))::uuid
        END
        FROM (SELECT substring(id FROM '[0-9]*$') AS digits,
            encode(sha256(uuid_send(space) || convert_to(id, 'UTF8')), 'hex') AS hash) AS parts
    $ordered$;

    -- One row for each old transaction, with its outcome.
    SELECT name INTO score FROM unnest('{fraud_score,confidence_score,score,probability}'::text[]) WITH ORDINALITY AS n(name, place)
        WHERE name = ANY (answers) ORDER BY place LIMIT 1;
    SELECT name INTO answered_at FROM unnest('{predicted_at,created_at}'::text[]) WITH ORDINALITY AS n(name, place)
        WHERE name = ANY (answers) ORDER BY place LIMIT 1;
    EXECUTE format(
        $sql$
        CREATE TEMPORARY TABLE staged ON COMMIT DROP AS
        WITH answer AS (
            SELECT DISTINCT ON (transaction_id::text) transaction_id::text AS id, prediction::text AS prediction,
                nullif(%1$s, 'NaN') AS fraud_score, %2$s AS model_version, %3$s AS predicted_at
            FROM %4$I.predictions WHERE prediction IS NOT NULL
            ORDER BY transaction_id::text, %3$s DESC NULLS LAST
        )
        SELECT row_number() OVER (ORDER BY %5$s NULLS FIRST, t.id::text COLLATE "C") AS row_number, NULL::uuid AS id,
            t.id::text AS old_id, t.description::text AS description, t.amount::text AS amount_text, NULL::numeric AS amount,
            t."timestamp"::text AS timestamp_text, NULL::timestamptz AS "timestamp", %6$s AS merchant,
            t.operation_type::text AS operation_type, t.side::text AS side,
            (SELECT jsonb_object_agg(key, value) FROM jsonb_each_text(to_jsonb(t)) WHERE NOT key = ANY (%7$L::text[])
                AND value IS NOT NULL) AS attributes,
            %8$s AS processing_type, coalesce(%5$s, now()) AS created_at, a.id IS NOT NULL AS is_predicted, a.prediction,
            a.fraud_score, a.model_version, coalesce(a.predicted_at, %5$s, now()) AS predicted_at,
            to_jsonb(t)::text AS raw, NULL::text AS fate, NULL::text AS why
        FROM %4$I.transactions t LEFT JOIN answer a ON a.id = t.id::text
        $sql$,
        CASE WHEN score IS NULL THEN 'NULL::float8' ELSE format('%I::float8', score) END,
        CASE WHEN 'model_version' = ANY (answers) THEN 'model_version::text' ELSE 'NULL::text' END,
        CASE WHEN answered_at IS NULL THEN 'NULL::timestamptz' ELSE format('%I::timestamptz', answered_at) END,
        origin,
        CASE WHEN 'created_at' = ANY (has) THEN 't.created_at::timestamptz' ELSE 'NULL::timestamptz' END,
        CASE WHEN 'merchant' = ANY (has) THEN 'nullif(t.merchant::text, '''')' ELSE 'NULL::text' END,
        '{id,description,amount,timestamp,merchant,operation_type,side,processing_type,created_at,updated_at,run_id}',
        CASE WHEN 'processing_type' = ANY (has)
            THEN 'CASE WHEN t.processing_type::text = ''streaming'' THEN ''streaming'' ELSE ''batch'' END' ELSE '''batch''' END
    );
    SELECT count(*), ceil(count(*)::numeric / chunk_rows) INTO read_rows, chunks FROM staged;

    SELECT count(*) INTO bad FROM staged WHERE fraud_score NOT BETWEEN 0 AND 1;
    IF bad > 0 THEN
        RAISE EXCEPTION '% scores in %.predictions are not between 0 and 1', bad, origin
            USING HINT = 'correct them, or make a view of predictions that scales them, and one of transactions, in another schema';
    END IF;
    SELECT count(*) INTO bad FROM staged WHERE is_predicted AND prediction = '';
    IF bad > 0 THEN
        RAISE EXCEPTION '% predictions in %.predictions are empty', bad, origin USING HINT = 'correct or delete them';
    END IF;

    -- The rules of the loader.
    UPDATE staged SET amount = CASE WHEN amount_text ~ number THEN amount_text::numeric END, why = CASE
        WHEN coalesce(old_id, '') = '' THEN 'id_empty'
        WHEN coalesce(description, '') = '' THEN 'description_empty'
        WHEN coalesce(amount_text, '') = '' THEN 'amount_empty'
        WHEN amount_text IN ('NaN', 'Infinity', '-Infinity') THEN 'amount_not_finite'
        WHEN amount_text !~ number THEN 'amount_format'
        WHEN coalesce(timestamp_text, '') = '' THEN 'timestamp_empty'
        WHEN timestamp_text ~ '(infinity|BC|^[0-9]{5})' THEN 'timestamp_format'
        WHEN coalesce(operation_type, '') = '' THEN 'operation_type_empty'
        WHEN coalesce(side, '') = '' THEN 'side_empty' END;
    UPDATE staged SET why = CASE WHEN min_scale(amount) > 4 THEN 'amount_scale' ELSE 'amount_range' END
        WHERE why IS NULL AND (min_scale(amount) > 4 OR abs(amount) >= 1e16);
    UPDATE staged SET fate = 'invalid' WHERE why IS NOT NULL;

    -- Instants and ids as the loader makes them. A text without a time zone is in assay.time_zone; a text with one, as timestamptz
    -- gives, keeps it.
    PERFORM set_config('timezone', zone, true);
    UPDATE staged SET "timestamp" = timestamp_text::timestamptz, id = CASE WHEN old_id ~* uuid_form THEN old_id::uuid END,
        old_id = CASE WHEN old_id !~* uuid_form THEN old_id END
        WHERE fate IS NULL;
    PERFORM set_config('timezone', 'UTC', true);
    IF EXISTS (SELECT FROM staged WHERE fate IS NULL AND id IS NULL) THEN
        SELECT nspname INTO extension FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'uuid-ossp';
        IF space IS NULL THEN
            RAISE EXCEPTION 'there are ids in %.transactions that are no UUIDs, such as %', origin,
                    (SELECT left(min(old_id), 60) FROM staged WHERE fate IS NULL AND id IS NULL)
                USING HINT = 'set assay.id_namespace to the ID_NAMESPACE of future loads, so that the same id stays the same '
                    'transaction';
        END IF;
        IF space ~* uuid_form THEN
            space_id := space::uuid;
        ELSIF extension IS NOT NULL THEN
            EXECUTE format('SELECT %1$I.uuid_generate_v5(%1$I.uuid_ns_url(), $1)', extension) INTO space_id USING space;
        END IF;
        IF scheme = 8 THEN
            UPDATE staged SET id = pg_temp.ordered_id(space_id, old_id) WHERE fate IS NULL AND id IS NULL;
        END IF;
        IF extension IS NOT NULL THEN
            EXECUTE format('UPDATE staged SET id = %I.uuid_generate_v5($1, old_id) WHERE fate IS NULL AND id IS NULL', extension)
                USING space_id;
        ELSIF EXISTS (SELECT FROM staged WHERE fate IS NULL AND id IS NULL) THEN
            RAISE EXCEPTION 'ids in %.transactions become UUIDs by the extension uuid-ossp, such as %', origin,
                    (SELECT left(min(old_id), 60) FROM staged WHERE fate IS NULL AND id IS NULL)
                USING HINT = 'CREATE EXTENSION "uuid-ossp"';
        END IF;
    END IF;

    -- Rows that Assay has already, repeated rows, and rows without a prediction. Rows without a fate after this are stored.
    ANALYZE staged;
    CREATE TEMPORARY TABLE twins ON COMMIT DROP AS
        SELECT *, row_number() OVER (PARTITION BY id ORDER BY is_predicted DESC, row_number) AS place FROM staged
        WHERE fate IS NULL AND id IN (SELECT id FROM staged WHERE fate IS NULL GROUP BY id HAVING count(*) > 1);
    CREATE TEMPORARY TABLE known ON COMMIT DROP AS
        SELECT s.row_number, (s.description, s.amount, s."timestamp", s.merchant, s.operation_type, s.side, s.attributes)
            IS NOT DISTINCT FROM
            (t.description, t.amount, t."timestamp", t.merchant, t.operation_type, t.side, t.attributes) AS is_same
        FROM staged s JOIN transactions t ON t.id = s.id WHERE s.fate IS NULL;
    INSERT INTO known
        SELECT s.row_number, (s.description, s.amount, s."timestamp", s.merchant, s.operation_type, s.side, s.attributes)
            IS NOT DISTINCT FROM
            (f.description, f.amount, f."timestamp", f.merchant, f.operation_type, f.side, f.attributes)
        FROM twins s JOIN twins f ON f.id = s.id AND f.place = 1 AND f.is_predicted
        WHERE s.place > 1 AND NOT EXISTS (SELECT FROM transactions t WHERE t.id = s.id);
    ANALYZE known;
    UPDATE staged s SET fate = CASE WHEN is_same THEN 'duplicate' ELSE 'failed' END,
        why = CASE WHEN NOT is_same THEN 'id_conflict' END
        FROM known k WHERE k.row_number = s.row_number;
    UPDATE staged SET fate = 'failed', why = 'suspect' WHERE fate IS NULL AND NOT is_predicted;

    -- The run and its chunks, then the rows.
    INSERT INTO runs (run_id, source_location, source_version, state, settings, checkpoint_chunk, checkpoint_row,
        checkpoint_line, checkpoint_invalid, checkpoint_amount, rows_read, chunks_total, amount_read, finished_at)
    SELECT run, format('table:%s.transactions', origin), to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), 'complete',
        jsonb_build_object(
            'chunk_rows', chunk_rows, 'chunk_bytes', 1048576, 'time_zone', 'UTC',
            'dialect', jsonb_build_object('delimiter', 'comma', 'decimal_mark', 'point', 'encoding', 'utf-8'),
            'header', to_jsonb(has), 'durable_broker', true,
            'namespace', coalesce(space_id, '00000000-0000-0000-0000-000000000000'))
            || CASE scheme WHEN 5 THEN '{}'::jsonb ELSE jsonb_build_object('ids', scheme) END,
        chunks, read_rows + 1, read_rows + 1, count(*) FILTER (WHERE fate = 'invalid'), coalesce(sum(amount), 0), read_rows,
        chunks, coalesce(sum(amount), 0), clock_timestamp()
    FROM (SELECT fate, CASE WHEN min_scale(amount) <= 4 AND abs(amount) < 1e16 THEN amount END AS amount FROM staged) AS all_rows;
    INSERT INTO chunks (run_id, chunk, first_row, rows, predicted, duplicate_rows)
    SELECT run, (row_number - 1) / chunk_rows, min(row_number), count(*), count(*) FILTER (WHERE fate IS NULL),
        jsonb_agg(jsonb_build_array(row_number, id) ORDER BY row_number) FILTER (WHERE fate = 'duplicate')
    FROM staged GROUP BY 2;
    INSERT INTO transactions (id, external_id, description, amount, "timestamp", merchant, operation_type, side, attributes,
        run_id, row_number, processing_type, created_at)
    SELECT id, old_id, description, amount, "timestamp", merchant, operation_type, side, attributes, run, row_number,
        processing_type, created_at
    FROM staged WHERE fate IS NULL ORDER BY id;
    INSERT INTO predictions (transaction_id, prediction, fraud_score, model_version, run_id, predicted_at)
    SELECT id, prediction, fraud_score, model_version, run, predicted_at FROM staged WHERE fate IS NULL ORDER BY id;
    INSERT INTO invalid_transactions (run_id, row_number, line, reason, message, raw)
    SELECT run, row_number, row_number, why, 'as the old job has stored it', convert_to(raw, 'UTF8')
    FROM staged WHERE fate = 'invalid';
    INSERT INTO failed_transactions (run_id, row_number, transaction_id, class, reason, attempts, payload)
    SELECT run, row_number, id, why,
        CASE why WHEN 'suspect' THEN 'the old job has stored no prediction for it' ELSE 'another transaction with this id is stored' END,
        1, convert_to(json_strip_nulls(json_build_object('row', row_number, 'external_id', old_id, 'transaction', json_build_object(
            'id', id, 'description', description, 'amount', amount,
            'timestamp', to_char("timestamp" AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'merchant', merchant,
            'operation_type', operation_type, 'side', side, 'attributes', attributes)))::text, 'UTF8')
    FROM staged WHERE fate = 'failed';
    INSERT INTO operations (operator, action, run_id, reason, details)
    VALUES (session_user, 'copy', run, 'what the old job has stored', jsonb_build_object('from', origin, 'rows', read_rows));

    -- The law, counted from the data rows.
    SELECT (SELECT count(*) FROM transactions t JOIN predictions p ON p.transaction_id = t.id WHERE t.run_id = run) AS predicted,
        (SELECT count(*) FROM invalid_transactions WHERE run_id = run) AS invalid,
        (SELECT count(*) FROM failed_transactions WHERE run_id = run) AS failed,
        (SELECT count(*) FROM staged WHERE fate = 'duplicate') AS duplicate INTO counts;
    IF read_rows <> counts.predicted + counts.invalid + counts.failed + counts.duplicate THEN
        RAISE EXCEPTION '% rows were read, and % have an outcome: nothing was changed', read_rows,
            counts.predicted + counts.invalid + counts.failed + counts.duplicate;
    END IF;
    DROP FUNCTION pg_temp.ordered_id(uuid, text);
    RAISE NOTICE 'run %: % rows read = % predicted + % invalid + % failed + % duplicate', run, read_rows, counts.predicted,
        counts.invalid, counts.failed, counts.duplicate;
END
$copy$;

COMMIT;
