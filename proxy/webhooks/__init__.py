"""Telling owners of what happened: a durable outbox, signed deliveries, guarded targets."""
