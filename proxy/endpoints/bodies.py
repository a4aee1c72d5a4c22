"""How long a request body an endpoint of a plugin takes, where that is not the usual few kilobytes."""

from __future__ import annotations

from typing import Any, Final

from fastapi.routing import APIRoute

from proxy.operations import LOCAL

_EXTENSION: Final = "x-body-bytes-max"


def body_bytes_max(maximum: int) -> dict[str, Any]:
    """For a route's `openapi_extra`: bodies up to `maximum` bytes are read; it stands in the specification, too."""
    return {_EXTENSION: maximum}


def body_bytes_max_of(route: APIRoute) -> int:
    """What the route says of itself, else what every endpoint of ours takes."""
    given = (route.openapi_extra or {}).get(_EXTENSION, LOCAL.body_bytes_max)
    return int(given)
