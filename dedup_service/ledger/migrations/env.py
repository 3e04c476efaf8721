"""Runs migrations on the connection that `database.migrate` hands over; its caller owns the transaction."""

from __future__ import annotations

from alembic import context

from dedup_service.ledger.tables import Base

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
