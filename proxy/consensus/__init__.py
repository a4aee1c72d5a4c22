"""Several models answer one question; what they agree on, and what is left of it under scrutiny, is the answer.

Pure: it knows no socket, no ledger and no configuration file. Calls go through `api.Calls`, time is the event loop's.
"""
