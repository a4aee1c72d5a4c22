"""Batches: prompts that are answered while nobody waits, durably queued, each an exchange of its own."""
