"""What the operator asks on the admin listener: upstream states, metrics, the CA's certificate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import Response

from proxy.config.schema import Generation
from proxy.endpoints.public import json_answer
from proxy.errors import Refusal
from proxy.telemetry.metrics import Metrics
from proxy.upstreams.health import UpstreamStates


def router(
    *, metrics: Metrics, states: UpstreamStates, generation: Callable[[], Generation], ca_certificate: Path
) -> APIRouter:
    """`/metrics`, `/upstreams`, `/ca.pem`."""
    routes = APIRouter()

    @routes.get("/metrics")
    async def prometheus() -> Response:
        """Prometheus text format."""
        body, content_type = metrics.render()
        return Response(body, media_type=content_type)

    @routes.get("/upstreams")
    async def upstreams() -> Response:
        """Each configured upstream, whether it is available, and what its last calls came to."""
        now = generation()
        listed = {name: {"available": True, **states.describe(name)} for name in now.upstreams}
        for name, reason in now.unavailable.items():
            listed[name] = {"available": False, "reason": reason, **states.describe(name)}
        return json_answer({"upstreams": listed})

    @routes.get("/ca.pem")
    def certificate() -> Response:
        """The certificate that clients of the regular listener must trust; never the key."""
        if not ca_certificate.exists():
            raise Refusal("not_found", "There is no CA yet: it is made when a regular listener starts.")
        return Response(ca_certificate.read_bytes(), media_type="application/x-pem-file")

    return routes
