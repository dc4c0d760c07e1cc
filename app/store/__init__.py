"""The database: one set of statements for SQLite and PostgreSQL."""
