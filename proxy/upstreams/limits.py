"""The limits of the providers' side, each named with its unit last."""

from __future__ import annotations

from typing import Final

HEAD_LINE_BYTES_MAX: Final = 8 << 10
"""Longest status line of an answer."""
HEAD_FIELD_BYTES_MAX: Final = 16 << 10
"""Longest single header field of an answer, name and value."""
HEAD_FIELDS_MAX: Final = 128
"""Most header fields of an answer."""
INFORMATIONAL_MAX: Final = 8
"""Most 1xx answers before the final one."""
READ_BUFFER_BYTES: Final = 64 << 10
"""Reading from an upstream pauses at twice this much unread body."""
COALESCED_BYTES_MAX: Final = 64 << 10
"""Head and body of a request leave in one write up to this size; above it copying costs more than a write."""
KEEPALIVE_SECONDS: Final = 55.0
"""An idle connection is closed after this; most servers close theirs after 60 to 75 seconds."""
WAITING_PER_CONNECTION_MAX: Final = 4
"""Requests that may wait for a connection, for each one an upstream may have."""
ENDPOINTS_MAX: Final = 256
"""Different hosts of one upstream (wildcard capture entries) remembered at a time."""
DNS_CACHE_SECONDS: Final = 30
"""How long a resolved name is used for new connections."""
POOLS_MAX: Final = 256
"""Different upstreams (plain targets of a forwarding listener included) with connections of their own."""
