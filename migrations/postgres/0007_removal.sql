-- Taking back a run that is finished, and what a failed row was before it was replayed.

ALTER TABLE runs
    -- The removal of the run: when it began, by whom and why, and when nothing of the run was left. The state stays what it was, as
    -- its rows are accounted for before and after.
    ADD COLUMN removal_at     timestamptz,
    ADD COLUMN removal_by     text,
    ADD COLUMN removal_reason text,
    ADD COLUMN removed_at     timestamptz;

-- The chunks with duplicates, of which a removal asks whether they are of its run's transactions. A chunk without any is not in it.
CREATE INDEX chunks_duplicates ON chunks (run_id, chunk) WHERE duplicate_rows IS NOT NULL;

-- What a run has replaced: … FROM transaction_history WHERE replaced_by_run = $1.
CREATE INDEX transaction_history_run ON transaction_history (replaced_by_run, transaction_id);

-- How a row had failed before a replay gave it another outcome. Nothing of its content.
CREATE TABLE row_history (
    run_id      text        NOT NULL,
    row_number  bigint      NOT NULL,
    replay      bigint      NOT NULL,
    class       text        NOT NULL,
    reason      text        NOT NULL,
    attempts    bigint      NOT NULL,
    replayed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, row_number, replay)
);
