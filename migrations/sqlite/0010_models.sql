-- Which model a prediction comes from, and why it has its score.

-- [code or {"feature": …, "contribution": …}, …] as JSON, the weightiest first; only of scores from REASONS_FROM on.
ALTER TABLE predictions ADD COLUMN reasons TEXT;
-- model_endpoints.id; NULL in predictions of earlier versions.
ALTER TABLE predictions ADD COLUMN endpoint INTEGER;

-- Where predictions come from. The key is a digest of the other columns.
CREATE TABLE model_endpoints (
    id       INTEGER PRIMARY KEY,
    -- Without credentials and query.
    url      TEXT NOT NULL,
    -- The first 16 digits of the features file's SHA-256.
    features TEXT
) STRICT;

-- The models that scored rows of a run: more than one if the model changed in its middle.
CREATE TABLE run_models (
    run_id        TEXT    NOT NULL,
    -- Empty if the model names none.
    model_version TEXT    NOT NULL,
    -- model_endpoints.id; 0 if it is not known.
    endpoint      INTEGER NOT NULL,
    first_at      TEXT    NOT NULL,
    PRIMARY KEY (run_id, model_version, endpoint)
) STRICT, WITHOUT ROWID;
