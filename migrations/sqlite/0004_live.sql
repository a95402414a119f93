-- See migrations/postgres/0004_live.sql.

CREATE TABLE live_runs (
    run_id     TEXT   PRIMARY KEY,
    producer   TEXT   NOT NULL,
    day        TEXT   NOT NULL,
    counted    INTEGER NOT NULL,
    next_chunk INTEGER NOT NULL DEFAULT 0,
    next_row   INTEGER NOT NULL DEFAULT 1,
    late_rows  INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE live_messages (
    run_id    TEXT   NOT NULL,
    message   TEXT   NOT NULL,
    digest    TEXT   NOT NULL,
    chunk     INTEGER NOT NULL,
    first_row INTEGER NOT NULL,
    rows      INTEGER NOT NULL,
    PRIMARY KEY (run_id, message)
);

CREATE TABLE live_counts (
    run_id   TEXT    NOT NULL,
    process  TEXT    NOT NULL,
    messages INTEGER  NOT NULL,
    rows     INTEGER  NOT NULL,
    doubtful INTEGER  NOT NULL,
    ended    INTEGER NOT NULL,
    PRIMARY KEY (run_id, process)
);
