-- How many files of each project stand in which state, and their share of all.
CREATE VIEW grafana.file_status AS
SELECT c.name AS client, p.name AS project, k.state AS status, sum(k.files)::bigint AS files,
       sum(k.bytes)::bigint AS bytes,
       (sum(k.files) / sum(sum(k.files)) OVER (PARTITION BY c.name, p.name))::float8 AS share
FROM claimed_counts AS k
JOIN deliveries AS d ON d.id = k.delivery_id
JOIN clients AS c ON c.id = d.client_id
JOIN projects AS p ON p.id = d.project_id
GROUP BY c.name, p.name, k.state
HAVING sum(k.files) <> 0;
