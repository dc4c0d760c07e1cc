"""All we know of databases: one set of statements for SQLite and PostgreSQL."""
