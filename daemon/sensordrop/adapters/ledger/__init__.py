"""The ledger: everything that speaks to PostgreSQL."""
