"""OpenAI's Node SDK by base_url."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tests.peers.behaviour import Behaviour
from tests.support.world import World

NODE = Path(__file__).parent / "node"
TEXT = Behaviour().text


def test_whole_streamed_listed_and_refused(edge: World, key: str) -> None:
    """One run of the SDK through everything an application does."""
    run = subprocess.run(
        ["node", "chat.mjs"],
        cwd=NODE,
        env={**os.environ, "API_KEY": key, "BASE_URL": edge.base_url, "MODEL": "gpt-4o"},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert (told["whole"], told["streamed"]) == (TEXT, TEXT)
    assert told["usage"]["total_tokens"] > 0
    assert told["usageChunks"] == 0
    assert "gpt-4o" in told["models"]
    assert told["refused"] == {"status": 404, "code": "model_not_available"}
