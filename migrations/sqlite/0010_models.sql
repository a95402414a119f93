-- Which model a prediction comes from, and why it has its score; and scores of any scale, if they are declared to be raw.
--
-- About two seconds for a million predictions, and their size again in the file, which later rows fill.

-- Without this, a view that someone made over predictions would prevent the renaming.
PRAGMA legacy_alter_table = ON;

CREATE TABLE new_predictions (
    transaction_id TEXT NOT NULL PRIMARY KEY,
    prediction     TEXT NOT NULL,
    fraud_score    REAL CHECK (fraud_score BETWEEN -1e12 AND 1e12),
    model_version  TEXT,
    run_id         TEXT NOT NULL,
    predicted_at   TEXT NOT NULL,
    -- [code or {"feature": …, "contribution": …}, …] as JSON, the weightiest first; only of scores from REASONS_FROM on.
    reasons        TEXT,
    -- model_endpoints.id; NULL in predictions of earlier versions.
    endpoint       INTEGER
) STRICT;
INSERT INTO new_predictions (transaction_id, prediction, fraud_score, model_version, run_id, predicted_at)
    SELECT transaction_id, prediction, fraud_score, model_version, run_id, predicted_at FROM predictions;
DROP TABLE predictions;
ALTER TABLE new_predictions RENAME TO predictions;

PRAGMA legacy_alter_table = OFF;

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
    -- When its first prediction was stored.
    first_at      TEXT    NOT NULL,
    PRIMARY KEY (run_id, model_version, endpoint)
) STRICT, WITHOUT ROWID;
