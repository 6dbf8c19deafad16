-- A session may end with a receipt; receipt_problem says why one that should have has none.
ALTER TABLE sync_sessions ADD COLUMN receipt_problem text;
ALTER TABLE receipts ADD COLUMN session_id bigint REFERENCES sync_sessions;
