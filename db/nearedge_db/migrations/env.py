"""Alembic environment: migrates over the connection and inside the transaction that the caller holds."""

from alembic import context

from nearedge_db.migrate import VERSION_TABLE
from nearedge_db.schema import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
