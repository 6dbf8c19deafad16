-- How many files each project has in each of its buckets, stored or on their way. Not counted are
-- versions that have a successor, and files that were gone before they were stored.
CREATE VIEW grafana.files_per_project AS
SELECT c.name AS client, p.name AS project, x.bucket_name AS bucket,
       sum(k.files)::bigint AS files, sum(k.bytes)::bigint AS bytes
FROM kept_counts AS k
JOIN deliveries AS d ON d.id = k.delivery_id
JOIN clients AS c ON c.id = d.client_id
JOIN projects AS p ON p.id = d.project_id
JOIN destinations AS x ON x.id = d.destination_id
WHERE k.state IN ('pending', 'uploaded', 'skipped', 'failed')
GROUP BY c.name, p.name, x.bucket_name
HAVING sum(k.files) <> 0;
