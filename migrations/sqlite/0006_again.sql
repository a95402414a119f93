-- See migrations/postgres/0006_again.sql.

ALTER TABLE dead_letters ADD COLUMN times INTEGER NOT NULL DEFAULT 1;
