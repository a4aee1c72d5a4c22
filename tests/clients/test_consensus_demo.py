"""The panel of the files as they ship: without any provider, by curl and by an SDK."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from proxy import shipped
from tests.faults import books
from tests.support.gateway import GatewayProcess
from tests.support.pages import command

ASKED: Any = [{"role": "user", "content": "What is a toll?"}]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("shipped")
    (folder / "policies").mkdir()
    for name in shipped.FILES:
        shutil.copy(shipped.folder() / name, folder / name)
    binds = {f"TOLLWAY_{name}_BIND": "127.0.0.1:0" for name in ("API", "CAPTURE", "ADMIN")}
    with GatewayProcess(folder, environment=binds) as running:
        yield running


def test_the_demo_answers_without_any_provider_or_key(demo: GatewayProcess) -> None:
    """As the page shows it, for nothing."""
    typed = command("consensus.md", '"mode": "demo"').replace("http://127.0.0.1:8402", demo.url("api"))
    run = subprocess.run(["sh", "-c", typed], capture_output=True, text=True, timeout=30)
    result = json.loads(run.stdout)
    assert result["answer"] and (result["mode"], result["charged_usd"]) == ("demo", "0.00")
    assert [one["status"] for one in result["members"]].count("answered") >= 2


def test_the_demo_is_a_model_for_any_sdk(demo: GatewayProcess) -> None:
    """Streamed, with the placeholder key that SDKs want; its books are in order afterwards."""
    with openai.OpenAI(api_key="sk-placeholder", base_url=f"{demo.url('api')}/v1", max_retries=0) as asking:
        chunks = list(asking.chat.completions.create(model="consensus-demo", messages=ASKED, stream=True))
    with (
        openai.OpenAI(api_key=demo.make_key(), base_url=f"{demo.url('api')}/v1", max_retries=0) as asking,
        pytest.raises(openai.NotFoundError, match="consensus-balanced") as refused,
    ):
        asking.chat.completions.create(model="consensus-balanced", messages=ASKED)
    assert "".join([one.choices[0].delta.content or "" for one in chunks if one.choices])
    assert refused.value.code == "model_not_available"
    books.assert_clean(demo)
