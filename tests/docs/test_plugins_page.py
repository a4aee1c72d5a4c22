"""What docs/plugins.md shows works as it stands there."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from proxy.chain import compose
from proxy.discovery import find
from proxy.exchange import Exchange, Response
from tests.support.fakes import Log, exchange

PAGE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text()


def block(language: str) -> str:
    """The first fenced block of that language."""
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


async def test_the_tutorials_plugin_runs_from_the_tutorials_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under 30 lines, named in config.yaml, without touching the proxy."""
    code = block("python")
    assert len(code.splitlines()) < 30
    (tmp_path / "shout").mkdir()
    (tmp_path / "shout" / "__init__.py").touch()
    (tmp_path / "shout" / "plugin.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    ((name, settings),) = yaml.safe_load(block("yaml"))["chain"][0].items()
    kind = find(name)
    plugin = kind(kind.Settings.model_validate(settings), SimpleNamespace())  # type: ignore[arg-type]

    async def end(_: Exchange) -> Response:
        return Response.of(200, b"{}")

    response = await compose([plugin], end, Log())(exchange())
    assert response.headers["x-hello"] == "req_test"
    sys.modules.pop("shout.plugin")
    sys.modules.pop("shout")


def test_codes_and_stages_named_on_the_page_exist() -> None:
    """The page speaks of what is there."""
    from proxy.plugin import Stage

    for stage in Stage:
        assert stage.name in PAGE
