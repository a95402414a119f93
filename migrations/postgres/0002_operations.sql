-- What operators need: stopping a run, dead letters with an outcome, replays, and the row by its number.

-- A person's order, or a budget's, to end a run early. It is given once; the loader, the predictors and the sweep act on it.
ALTER TABLE runs
    ADD COLUMN stop_kind    text CHECK (stop_kind IN ('cancelled', 'aborted')),
    ADD COLUMN stop_reason  text,
    ADD COLUMN stop_at      timestamptz,
    -- The size of the source, for whoever wants to know how much of it is left.
    ADD COLUMN source_bytes bigint;

-- The writers' sweep: what is not finished. Instead of runs_sealed, which had the sealed ones only.
CREATE INDEX runs_open ON runs (run_id) WHERE finished_at IS NULL;
DROP INDEX runs_sealed;

-- "What became of row 4,711?": … FROM transactions WHERE run_id = $1 AND row_number = $2. Takes the place of transactions_run,
-- whose queries it serves as well. A summary of each few pages (BRIN) would be smaller, but says nothing of what was stored
-- since the last vacuum: 0.5 s for a row of the million that was loaded just now. It takes 90 bytes for each row, and is
-- written at its end.
CREATE INDEX transactions_rows ON transactions (run_id, row_number);
DROP INDEX transactions_run;

-- Which chunk covers a row, so that a replayed one is credited to it.
CREATE INDEX chunks_rows ON chunks (run_id, first_row);

-- The rows that failed with a transaction id; and how often one was replaced.
CREATE INDEX failed_transactions_id ON failed_transactions (transaction_id);
CREATE INDEX transaction_history_id ON transaction_history (transaction_id);

-- Dead letters are drained at least once: the same one twice is one.
ALTER TABLE dead_letters
    ADD COLUMN key         uuid UNIQUE,
    -- What was made of it: its rows are booked as failed; its identity was recorded before; it cannot be read; the store
    -- refuses it. The last two keep their run from being complete until they are resolved.
    ADD COLUMN outcome     text NOT NULL DEFAULT 'unreadable' CHECK (outcome IN ('booked', 'known', 'unreadable', 'refused')),
    ADD COLUMN resolved_at timestamptz;
CREATE INDEX dead_letters_run ON dead_letters (run_id);

-- Failed rows that were sent again; each part is recorded in the transaction that exchanged its rows for their outcomes.
CREATE TABLE replays (
    run_id   text        NOT NULL,
    replay   bigint      NOT NULL,
    began_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, replay)
);
CREATE TABLE replay_parts (
    run_id      text        NOT NULL,
    replay      bigint      NOT NULL,
    part        bigint      NOT NULL,
    -- How many of its rows were stored, failed again, and were gone before it came.
    stored      bigint      NOT NULL,
    failed      bigint      NOT NULL,
    gone        bigint      NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, replay, part)
);
