-- See migrations/postgres/0003_leases_and_totals.sql. Amounts are text, as everywhere here.

ALTER TABLE runs ADD COLUMN lease_holder TEXT;
ALTER TABLE runs ADD COLUMN lease_epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN lease_until TEXT;
ALTER TABLE runs ADD COLUMN checkpoint_invalid INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN checkpoint_amount TEXT NOT NULL DEFAULT '0';
ALTER TABLE runs ADD COLUMN amount_read TEXT;
