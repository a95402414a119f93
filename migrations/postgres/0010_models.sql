-- Which model a prediction comes from, and why it has its score.

ALTER TABLE predictions
    -- [code or {"feature": …, "contribution": …}, …], the weightiest first; only of scores from REASONS_FROM on.
    ADD COLUMN reasons jsonb,
    -- model_endpoints.id; NULL in predictions of earlier versions.
    ADD COLUMN endpoint bigint;

-- Where predictions come from. The key is a digest of the other columns, so that every writer knows it without asking.
CREATE TABLE model_endpoints (
    id       bigint PRIMARY KEY,
    -- Without credentials and query.
    url      text   NOT NULL,
    -- The first 16 digits of the features file's SHA-256.
    features text
);

-- The models that scored rows of a run: more than one if the model changed in its middle.
CREATE TABLE run_models (
    run_id        text        NOT NULL,
    -- Empty if the model names none.
    model_version text        NOT NULL,
    -- model_endpoints.id; 0 if it is not known.
    endpoint      bigint      NOT NULL,
    -- When its first prediction was stored.
    first_at      timestamptz NOT NULL,
    PRIMARY KEY (run_id, model_version, endpoint)
);

-- Roles that store predictions note their models; roles that read them read those. deploy/postgres/roles.sql grants the same.
DO $grants$
DECLARE
    entry record;
BEGIN
    FOR entry IN SELECT DISTINCT grantee, privilege_type FROM information_schema.role_table_grants
        WHERE table_schema = current_schema() AND table_name = 'predictions' AND privilege_type IN ('SELECT', 'INSERT')
            AND grantee <> 'PUBLIC'
    LOOP
        EXECUTE format('GRANT %s ON model_endpoints, run_models TO %I', entry.privilege_type, entry.grantee);
    END LOOP;
END
$grants$;

-- Scores that are declared to be raw are of any scale; those that no mean can be taken of are of none. What is stored already is between 0 and
-- 1: it needs no check.
ALTER TABLE predictions DROP CONSTRAINT IF EXISTS predictions_fraud_score_check;
ALTER TABLE predictions ADD CONSTRAINT predictions_fraud_score_check
    CHECK (fraud_score BETWEEN -1e12 AND 1e12) NOT VALID;
