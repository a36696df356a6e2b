"""How Alembic reaches the database: through the connection and the transaction that `store.database` already holds."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
