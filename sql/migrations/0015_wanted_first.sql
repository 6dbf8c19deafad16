-- Files that are ready have the epoch as their next_at, so that what somebody wants now goes before
-- them, at minus infinity. Rows that are there keep minus infinity: they go in their old order.
ALTER TABLE upload_queue ALTER COLUMN next_at SET DEFAULT 'epoch';
