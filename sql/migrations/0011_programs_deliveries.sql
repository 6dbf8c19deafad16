-- Says which deliveries a program looks after: a run by hand asks whether a daemon has its folder.
ALTER TABLE daemons ADD COLUMN delivery_ids bigint[] NOT NULL DEFAULT '{}';
