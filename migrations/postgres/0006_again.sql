-- Dead letters that come again after they were resolved.

ALTER TABLE dead_letters
    -- How often it has come: whoever resolves it resolves what he saw, and nothing that came since.
    ADD COLUMN times bigint NOT NULL DEFAULT 1;
