"""The same request, asked for again under the same `Idempotency-Key`, is answered once and runs once.

`services.once`: on where the plugin `idempotency` is in the chain. A key is claimed before anything runs, by one
insert that one process alone can win; the answer is kept when it came to its end, and anything else frees the key.
"""
