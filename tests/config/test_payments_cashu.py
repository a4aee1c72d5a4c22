"""The mints of `payments.cashu` in config.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config.payment_entries import PaymentsEntry
from proxy.config.payments import build_payments
from proxy.config.problems import Marks, Problem
from proxy.payments.settings import Mint, Payments


def built(*mints: dict[str, object]) -> tuple[Payments | None, list[Problem]]:
    problems: list[Problem] = []
    entry = PaymentsEntry.model_validate({"bitcoin": {"fixed_usd": "60000"}, "cashu": {"mints": list(mints)}})
    return build_payments(entry, Marks("config.yaml"), problems, tiers=(), root=Path()), problems


def test_mints_have_one_spelling() -> None:
    """Whatever the case of the host, a default port, or slashes at the end."""
    payments, problems = built(
        {"url": "https://Mint.test:443/Bitcoin/"}, {"url": "http://127.0.0.1:3338", "development": True}
    )
    assert not problems
    assert payments is not None and payments.cashu is not None
    assert payments.cashu.mints == (Mint("https://mint.test/Bitcoin"), Mint("http://127.0.0.1:3338", development=True))


@pytest.mark.parametrize(
    ("mint", "says"),
    [
        ({"url": "http://mint.test"}, "https://"),
        ({"url": "http://127.0.0.1:3338"}, "https://"),
        ({"url": "mint.test"}, "URL of a mint"),
        ({"url": "https://user@mint.test"}, "URL of a mint"),
        ({"url": "http://10.0.0.1", "development": True}, "loopback"),
        ({"url": "http://169.254.169.254", "development": True}, "loopback"),
        ({"url": "https://listed.test/"}, "twice"),
    ],
)
def test_mints_that_cannot_be_taken_are_problems(mint: dict[str, object], says: str) -> None:
    """At their place in the file, with what to write instead."""
    _, problems = built({"url": "https://listed.test"}, mint)
    assert len(problems) == 1
    assert says in str(problems[0])


def test_without_mints_the_rail_is_off() -> None:
    """And nothing is asked about bitcoin."""
    payments, problems = built()
    assert payments is None
    assert not problems
