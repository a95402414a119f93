-- Predictions as rows in the order of their arrival, with an index over their ids, as transactions are. In a table that is
-- ordered by random ids, such as UUIDs of a source, each new prediction rewrites another page of 4 KiB; in an index, which has
-- a third of the pages, many share one. Ids that ascend cost the same in both.
--
-- About two seconds for a million predictions, and their size again in the file, which later rows fill.

-- Without this, a view that someone made over predictions would prevent the renaming.
PRAGMA legacy_alter_table = ON;

CREATE TABLE new_predictions (
    transaction_id TEXT NOT NULL PRIMARY KEY,
    prediction     TEXT NOT NULL,
    fraud_score    REAL CHECK (fraud_score BETWEEN 0 AND 1),
    model_version  TEXT,
    run_id         TEXT NOT NULL,
    predicted_at   TEXT NOT NULL
) STRICT;
INSERT INTO new_predictions (transaction_id, prediction, fraud_score, model_version, run_id, predicted_at)
    SELECT transaction_id, prediction, fraud_score, model_version, run_id, predicted_at FROM predictions;
DROP TABLE predictions;
ALTER TABLE new_predictions RENAME TO predictions;

PRAGMA legacy_alter_table = OFF;
