"""Ecash by the Cashu protocol: tokens, blind signatures, mints, and the rail that is paid with them.

NUT-00 to NUT-03, NUT-07, NUT-09, NUT-12, NUT-18 and NUT-24 are spoken; their texts are at github.com/cashubtc/nuts.
"""
