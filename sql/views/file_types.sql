-- How many files of each type a project has; of the same files as files_per_project.
CREATE VIEW grafana.file_types AS
SELECT c.name AS client, p.name AS project, k.kind::text AS file_type,
       sum(k.files)::bigint AS files, sum(k.bytes)::bigint AS bytes
FROM kept_counts AS k
JOIN deliveries AS d ON d.id = k.delivery_id
JOIN clients AS c ON c.id = d.client_id
JOIN projects AS p ON p.id = d.project_id
WHERE k.state IN ('pending', 'uploaded', 'skipped', 'failed')
GROUP BY c.name, p.name, k.kind
HAVING sum(k.files) <> 0;
