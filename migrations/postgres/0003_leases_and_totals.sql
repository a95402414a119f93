-- Several loaders beside each other, and what a run is to add up to.

ALTER TABLE runs
    -- Who reads the source, and until when by this database's clock unless that is renewed. Each change of hands raises the
    -- epoch, and a checkpoint or a seal of an earlier epoch is refused.
    ADD COLUMN lease_holder       text,
    ADD COLUMN lease_epoch        bigint        NOT NULL DEFAULT 0,
    ADD COLUMN lease_until        timestamptz,
    -- What was counted before the checkpoint: a loader that goes on there cannot count it again.
    ADD COLUMN checkpoint_invalid bigint        NOT NULL DEFAULT 0,
    ADD COLUMN checkpoint_amount  numeric(38,4) NOT NULL DEFAULT 0,
    -- The sum of all amounts that could be read; NULL until the run is sealed.
    ADD COLUMN amount_read        numeric(38,4);
