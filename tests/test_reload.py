"""When changed files are read again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from proxy.reload import Reloader
from tests.support.fakes import generation
from tests.support.files import Files
from tests.support.panels import CONSENSUS


async def test_files_that_are_being_written_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload comes once they look the same twice, and once for each such state."""
    under = generation()
    looks = iter("aabcddddeaf")
    tried: list[str] = []
    done = asyncio.Event()
    last = ""

    def signature(_: Reloader) -> Any:
        nonlocal last
        last = next(looks, "")
        if not last:
            done.set()
        return last

    async def reload(self: Reloader) -> bool:
        tried.append(last)
        self._seen = last
        return True

    monkeypatch.setattr(Reloader, "_signature", signature)
    monkeypatch.setattr(Reloader, "try_reload", reload)

    async def apply(_: Any) -> None:
        raise AssertionError("nothing is read here")

    watching = asyncio.create_task(Reloader(tmp_path, lambda: under, apply, None).watch(0))
    async with asyncio.timeout(10):
        await done.wait()
    watching.cancel()
    assert "".join(tried) == "d"


def test_a_policy_file_that_comes_or_goes_is_a_change(tmp_path: Path) -> None:
    """Panels may be set up, and taken away, while it runs."""
    files = Files(tmp_path)
    current = files.load()

    async def apply(_: Any) -> None:
        raise AssertionError("nothing is read here")

    reloader = Reloader(tmp_path / "config.yaml", lambda: current, apply, None)
    before = reloader._signature()
    files.write("policies/consensus.yaml", CONSENSUS)
    assert reloader._signature() != before
    (tmp_path / "policies" / "consensus.yaml").unlink()
    assert reloader._signature() == before
