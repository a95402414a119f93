-- The tables of the peers: those of Assay without what only Assay records (the source's own id, attributes, run, row number, kind),
-- and without the index by row.
CREATE TABLE transactions (
    id             uuid          PRIMARY KEY,
    description    text          NOT NULL,
    amount         numeric(20,4) NOT NULL,
    "timestamp"    timestamptz   NOT NULL,
    merchant       text,
    operation_type text          NOT NULL,
    side           text          NOT NULL,
    created_at     timestamptz   NOT NULL DEFAULT now()
);
CREATE TABLE predictions (
    transaction_id uuid             PRIMARY KEY,
    prediction     text             NOT NULL,
    fraud_score    double precision,
    model_version  text,
    predicted_at   timestamptz      NOT NULL
);
-- Tasks that are done, each recorded with its rows: a task that is delivered twice counts once.
CREATE TABLE tasks (
    job       uuid,
    task      integer,
    rows      integer NOT NULL,
    predicted integer NOT NULL,
    invalid   integer NOT NULL,
    PRIMARY KEY (job, task)
);
