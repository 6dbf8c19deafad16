#!/usr/bin/env bash
# Run once by PostgreSQL's image, when it makes the database: lets Grafana sign in as the role that
# may read the views for dashboards and nothing else. sensordropd gives the role its rights.
set -euo pipefail

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\getenv password GRAFANA_READER_PASSWORD
SELECT 'CREATE ROLE sensordrop_grafana'
WHERE NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'sensordrop_grafana') \gexec
ALTER ROLE sensordrop_grafana LOGIN PASSWORD :'password';
SQL
