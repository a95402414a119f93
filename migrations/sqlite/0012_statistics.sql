-- See migrations/postgres/0012_statistics.sql.

CREATE TABLE run_statistics (
    run_id    TEXT    NOT NULL,
    at        INTEGER NOT NULL,
    seconds   INTEGER NOT NULL,
    predicted INTEGER NOT NULL,
    invalid   INTEGER NOT NULL,
    failed    INTEGER NOT NULL,
    duplicate INTEGER NOT NULL,
    facts     TEXT    NOT NULL
) STRICT;
CREATE INDEX run_statistics_run ON run_statistics (run_id, at);
CREATE INDEX run_statistics_seconds ON run_statistics (at) WHERE seconds = 1;

CREATE INDEX runs_started ON runs (started_at DESC, run_id DESC);
