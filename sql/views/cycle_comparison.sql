-- How many files of each type came with each cycle, by bucket; of the same files as
-- files_per_project.
CREATE VIEW grafana.cycle_comparison AS
SELECT c.name AS client, p.name AS project, x.bucket_name AS bucket, y.name AS cycle,
       k.kind::text AS file_type, sum(k.files)::bigint AS files, sum(k.bytes)::bigint AS bytes
FROM kept_counts AS k
JOIN deliveries AS d ON d.id = k.delivery_id
JOIN clients AS c ON c.id = d.client_id
JOIN projects AS p ON p.id = d.project_id
JOIN cycles AS y ON y.id = d.cycle_id
JOIN destinations AS x ON x.id = d.destination_id
WHERE k.state IN ('pending', 'uploaded', 'skipped', 'failed')
GROUP BY c.name, p.name, x.bucket_name, y.name, k.kind
HAVING sum(k.files) <> 0;
