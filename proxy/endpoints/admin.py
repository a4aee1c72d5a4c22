"""What the operator asks on the admin listener: upstream states, metrics, the CA's certificate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import Response

from proxy.config.problems import ConfigProblems
from proxy.config.schema import Generation
from proxy.endpoints.public import json_answer
from proxy.errors import Refusal
from proxy.reload import Reloader
from proxy.telemetry.metrics import Metrics
from proxy.upstreams.health import UpstreamStates


def router(
    *,
    metrics: Metrics,
    states: UpstreamStates,
    generation: Callable[[], Generation],
    ca_certificate: Path,
    reloader: Callable[[], Reloader | None],
) -> APIRouter:
    """`/metrics`, `/upstreams`, `/ca.pem`, `/reload`."""
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

    @routes.post("/reload")
    async def reload() -> Response:
        """Read the configuration again: 200 with what waits for a restart, or 409 with every problem."""
        running = reloader()
        if running is None:
            raise Refusal("not_found", "This proxy was started without a file to read again.")
        try:
            result = await running.reload()
        except ConfigProblems as error:
            raise Refusal(
                "conflict",
                "The configuration was not taken over, the old one goes on. Mend the files and try again.",
                details={"problems": [str(problem) for problem in error.problems]},
            ) from error
        return json_answer({"ok": True, "models": len(result.generation.models), "needs_restart": result.needs_restart})

    return routes
