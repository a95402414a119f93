-- What each commit notes of its rows, so that no picture of a run has to read them. No row has personal data.

CREATE TABLE run_statistics (
    run_id    text    NOT NULL,
    -- When it was recorded, by this database's clock: Unix time in seconds.
    at        bigint  NOT NULL,
    -- 1, or 60 once writers have summed up a minute.
    seconds   integer NOT NULL,
    predicted bigint  NOT NULL,
    invalid   bigint  NOT NULL,
    failed    bigint  NOT NULL,
    duplicate bigint  NOT NULL,
    -- {"labels": {label: rows}, "scores": [[bar, rows], …], "invalid": {reason: rows}, "failed": {class: rows},
    --  "highest": [[score, row number], …]}; what is empty is left out.
    facts     jsonb   NOT NULL
);
CREATE INDEX run_statistics_run ON run_statistics (run_id, at);
-- Those that wait to be summed up.
CREATE INDEX run_statistics_seconds ON run_statistics (at) WHERE seconds = 1;

-- 10,000 runs are listed by their time.
CREATE INDEX runs_started ON runs (started_at DESC, run_id DESC);

-- Roles that record chunks note these, and sum them up; roles that read chunks read them; those that delete invalid rows and change
-- chunks remove them with their run. deploy/postgres/roles.sql grants the same.
DO $grants$
DECLARE
    entry record;
BEGIN
    FOR entry IN SELECT DISTINCT grantee, privilege_type FROM information_schema.role_table_grants
        WHERE table_schema = current_schema() AND table_name = 'run_models' AND privilege_type IN ('SELECT', 'INSERT')
            AND grantee <> 'PUBLIC'
    LOOP
        EXECUTE format('GRANT %s ON run_statistics TO %I', entry.privilege_type, entry.grantee);
    END LOOP;
    FOR entry IN SELECT DISTINCT grantee FROM information_schema.role_table_grants
        WHERE table_schema = current_schema() AND privilege_type = 'DELETE' AND grantee <> 'PUBLIC'
            AND table_name IN ('chunks', 'predictions')
    LOOP
        EXECUTE format('GRANT SELECT, DELETE ON run_statistics TO %I', entry.grantee);
    END LOOP;
END
$grants$;
