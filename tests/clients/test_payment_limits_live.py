"""Limits for payers through a whole proxy: who is refused for them has lost nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.paid import CHAT, LIGHTNING, PaidWorld, body, paid_world

ONE_A_SECOND = {"per_minute": 6000, "burst": 1, "burst_seconds": 1}
WIDE = {"per_minute": 6000, "burst": 1000, "burst_seconds": 1}


@pytest.fixture
def shop(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[PaidWorld]:
    payments = {"lightning": {**LIGHTNING, "pending_client_max": 1000}}
    with paid_world(tmp_path / "proxy", payments=payments, limits={"payers": request.param}) as running:
        yield running


def payments(shop: PaidWorld) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(shop.world.gateway.cli("payments", "list", "--json").stdout)
    return found


@pytest.mark.parametrize("shop", [{}], indirect=True)
def test_the_thirty_first_price_in_a_minute_is_refused(shop: PaidWorld) -> None:
    """The defaults; health goes on, keys go on, and so does who pays for what was quoted."""
    with shop.client() as client:
        answers = [client.post(CHAT, json=body(f"{number}")) for number in range(31)]
        assert [answer.status_code for answer in answers] == [402] * 30 + [429]
        assert answers[-1].json()["error"]["code"] == "rate_limited"
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 2
        assert client.get("/health").status_code == 200
        key = {"authorization": f"Bearer {shop.world.gateway.make_key()}"}
        assert client.post(CHAT, json=body(), headers=key).status_code == 200
        paid = client.post(CHAT, json=body("0"), headers={"authorization": shop.l402(answers[0])})
        assert paid.status_code == 200


@pytest.mark.parametrize("shop", [{"paid": ONE_A_SECOND, "invoice": WIDE}], indirect=True)
def test_a_payment_refused_for_the_rate_is_not_taken_and_works_afterwards(shop: PaidWorld) -> None:
    """The ledger does not even know it."""
    with shop.client() as client:
        first, second = (client.post(CHAT, json=body(text)) for text in ("one", "two"))
        proofs = [{"authorization": shop.l402(challenge)} for challenge in (first, second)]
        assert client.post(CHAT, json=body("one"), headers=proofs[0]).status_code == 200
        refused = client.post(CHAT, json=body("two"), headers=proofs[1])
        assert (refused.status_code, "Nothing was taken" in refused.text, len(payments(shop))) == (429, True, 1)
        deadline = time.monotonic() + 20
        while (answer := client.post(CHAT, json=body("two"), headers=proofs[1])).status_code == 429:
            assert time.monotonic() < deadline
            time.sleep(float(answer.headers["retry-after"]))
        assert (answer.status_code, len(payments(shop))) == (200, 2)


@pytest.mark.parametrize("shop", [{"paid": WIDE, "invoice": WIDE, "streams": 2}], indirect=True)
def test_slots_come_back_however_many_are_refused(shop: PaidWorld) -> None:
    """Of many at once some are refused; after them as many as before may come."""
    with shop.client() as client, ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda number: client.post(CHAT, json=body(f"{number}")), range(12)))
        refused = [answer for answer in answers if answer.status_code == 429]
        assert {answer.json()["error"]["code"] for answer in refused} <= {"too_many_streams"}
        assert all(answer.headers["retry-after"] == "1" for answer in refused)
        served: httpx.Response = client.post(CHAT, json=body("after"))
        assert served.status_code == 402
        assert client.post(CHAT, json=body("after"), headers={"authorization": shop.l402(served)}).status_code == 200
