"""One proof, shown to everybody at once: two processes on one ledger, one call to the provider."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.peers.behaviour import Behaviour
from tests.peers.provider import OPENAI_KEY
from tests.support.gateway import GatewayProcess
from tests.support.paid import CHAT, body, paid_world

SHOWN = 50


def test_a_proof_shown_fifty_times_at_once_to_two_processes_buys_one_answer(tmp_path: Path) -> None:
    """Exactly one call upstream. Who comes while it runs gets 409, who comes later the kept answer, from either."""
    with paid_world(tmp_path) as shop, GatewayProcess(tmp_path, environment={"OPENAI_API_KEY": OPENAI_KEY}) as twin:
        shop.world.provider.script(Behaviour(head_delay_seconds=0.3))
        with shop.client() as client:
            paid = {"authorization": shop.l402(client.post(CHAT, json=body()))}
        urls = [shop.url, twin.url("api")]

        def show(number: int) -> tuple[int, bytes, str]:
            answer = httpx.post(urls[number % 2] + CHAT, json=body(), headers=paid, timeout=30)
            return answer.status_code, answer.content, answer.headers.get("x-dedup", "")

        with ThreadPoolExecutor(SHOWN) as pool:
            answers = list(pool.map(show, range(SHOWN)))
        seen = Counter(status for status, _, _ in answers)
        assert set(seen) <= {200, 409}
        assert len(shop.world.provider.requests) == 1
        first = [content for status, content, dedup in answers if status == 200 and not dedup]
        assert len(first) == 1
        for url in urls:
            later = httpx.post(url + CHAT, json=body(), headers=paid, timeout=30)
            assert (later.status_code, later.content, later.headers["x-dedup"]) == (200, first[0], "hit")
        assert len(shop.world.provider.requests) == 1
        shop.world.gateway.cli("ledger", "audit")
