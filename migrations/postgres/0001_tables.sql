-- The tables of Assay.
--
-- The bulk tables have no foreign keys, and no index beyond their primary keys but those that name the query that needs
-- them: each one costs every row that is ever written.

-- The ledger of runs. Transactions that write chunks never update it, so that writers do not queue up behind one row.
CREATE TABLE runs (
    run_id            text        PRIMARY KEY,
    source_location   text        NOT NULL,
    source_version    text        NOT NULL,
    -- The natural key: a hash of location and version, as a location may be longer than an index takes. NULL for runs that
    -- were forced and for those that failed, so that their source can be loaded again.
    source_key        uuid        UNIQUE,
    state             text        NOT NULL DEFAULT 'loading'
        CHECK (state IN ('loading', 'sealed', 'complete', 'failed', 'cancelled')),
    -- Frozen at the start; overrides the environment when the run is resumed.
    settings          jsonb       NOT NULL,
    -- Where a restarted loader goes on. Only ever over the contiguous confirmed prefix.
    checkpoint_chunk  bigint      NOT NULL DEFAULT 0,
    checkpoint_row    bigint      NOT NULL DEFAULT 1,
    checkpoint_line   bigint      NOT NULL DEFAULT 1,
    checkpoint_offset bigint      NOT NULL DEFAULT 0,
    -- What the reader counted; NULL until the run is sealed.
    rows_read         bigint,
    chunks_total      bigint,
    error             text,
    started_at        timestamptz NOT NULL DEFAULT now(),
    finished_at       timestamptz
);

-- The writers' sweep, every few seconds: SELECT run_id FROM runs WHERE state = 'sealed'. Holds only the runs it finds.
CREATE INDEX runs_sealed ON runs (run_id) WHERE state = 'sealed';

-- The chunks whose rows are stored, each recorded in the transaction that stored them.
CREATE TABLE chunks (
    run_id         text        NOT NULL,
    chunk          bigint      NOT NULL,
    first_row      bigint      NOT NULL,
    rows           bigint      NOT NULL,
    predicted      bigint      NOT NULL,
    -- Rows whose transaction was stored before, as [[row_number, transaction_id], …]; NULL where there is none.
    duplicate_rows jsonb,
    recorded_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, chunk)
);

-- What was scored and stored; each has its row in predictions. `run_id` and `row_number` are those of the row that stored
-- it first, and stay when ID_CONFLICT=update replaces its content.
CREATE TABLE transactions (
    id              uuid          PRIMARY KEY,
    -- The source's id, where that is no UUID.
    external_id     text,
    description     text          NOT NULL,
    amount          numeric(20,4) NOT NULL,
    "timestamp"     timestamptz   NOT NULL,
    merchant        text,
    operation_type  text          NOT NULL,
    side            text          NOT NULL,
    -- Further columns of the source; NULL where it has none.
    attributes      jsonb,
    run_id          text          NOT NULL,
    row_number      bigint        NOT NULL,
    processing_type text          NOT NULL CHECK (processing_type IN ('batch', 'streaming')),
    created_at      timestamptz   NOT NULL DEFAULT now()
);

-- The tally of a run, and its counts by prediction: … FROM transactions WHERE run_id = $1. Its equal keys are stored once, and
-- it grows at its end.
CREATE INDEX transactions_run ON transactions (run_id);

CREATE TABLE predictions (
    transaction_id uuid             PRIMARY KEY,
    prediction     text             NOT NULL,
    fraud_score    double precision CHECK (fraud_score BETWEEN 0 AND 1),
    model_version  text,
    -- The run that asked for it: not the transaction's where its content was replaced.
    run_id         text             NOT NULL,
    predicted_at   timestamptz      NOT NULL
);

-- What a transaction and its prediction were before they were replaced.
CREATE TABLE transaction_history (
    id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    transaction_id  uuid        NOT NULL,
    transaction     jsonb       NOT NULL,
    prediction      jsonb,
    replaced_at     timestamptz NOT NULL DEFAULT now(),
    -- The row that replaced it.
    replaced_by_run text        NOT NULL,
    replaced_by_row bigint      NOT NULL
);

-- Rows that broke a rule, with their own bytes, whatever those are.
CREATE TABLE invalid_transactions (
    run_id     text   NOT NULL,
    row_number bigint NOT NULL,
    line       bigint NOT NULL,
    reason     text   NOT NULL,
    message    text   NOT NULL,
    raw        bytea  NOT NULL,
    PRIMARY KEY (run_id, row_number)
);

-- Valid transactions that could not be scored or stored.
CREATE TABLE failed_transactions (
    run_id         text   NOT NULL,
    row_number     bigint NOT NULL,
    transaction_id uuid   NOT NULL,
    class          text   NOT NULL,
    reason         text   NOT NULL,
    attempts       bigint NOT NULL,
    -- JSON, as it travels: what a replay sends again. Bytes, as PostgreSQL's text does not take all that JSON may hold.
    payload        bytea  NOT NULL,
    PRIMARY KEY (run_id, row_number)
);

-- Messages that the broker gave up, or that could not be decoded.
CREATE TABLE dead_letters (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue        text        NOT NULL,
    message_id   text,
    message_type text,
    run_id       text,
    reason       text        NOT NULL,
    attempt      bigint      NOT NULL,
    body         bytea       NOT NULL,
    received_at  timestamptz NOT NULL DEFAULT now()
);

-- Who cancelled, replayed, forced or purged, when and why.
CREATE TABLE operations (
    id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    operator text        NOT NULL,
    action   text        NOT NULL,
    run_id   text,
    reason   text,
    details  jsonb,
    done_at  timestamptz NOT NULL DEFAULT now()
);

-- One row. A program works with a schema that is newer than itself if its own newest migration is at least this one; a
-- migration that older programs cannot work with raises it.
CREATE TABLE schema_compatibility (
    oldest_version bigint NOT NULL
);
INSERT INTO schema_compatibility VALUES (1);
