-- How many files of each project stand in which state, by bucket. Every version of a file counts
-- once.
CREATE VIEW grafana.upload_status_per_project AS
SELECT c.name AS client, p.name AS project, x.bucket_name AS bucket, k.state AS status,
       sum(k.files)::bigint AS files, sum(k.bytes)::bigint AS bytes
FROM claimed_counts AS k
JOIN deliveries AS d ON d.id = k.delivery_id
JOIN clients AS c ON c.id = d.client_id
JOIN projects AS p ON p.id = d.project_id
JOIN destinations AS x ON x.id = d.destination_id
GROUP BY c.name, p.name, x.bucket_name, k.state
HAVING sum(k.files) <> 0;
