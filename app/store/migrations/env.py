"""Alembic's entry point: runs the migrations on the connection that `app.store.migrate` provides."""

from alembic import context

from app.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite can't alter most of a table; Alembic then copies it. https://alembic.sqlalchemy.org/en/latest/batch.html
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
