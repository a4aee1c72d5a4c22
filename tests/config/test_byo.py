"""The section byo of config.yaml."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.byo import new_key
from proxy.config.byo import build_byo
from proxy.config.load import load_generation
from proxy.config.problems import ConfigProblems, Marks
from proxy.config.schema import Byo, ByoEntry, UpstreamEntry
from proxy.config.upstreams import Upstreams
from proxy.reload import merged
from proxy.upstreams.api import Upstream
from tests.support.gateway import write_folder
from tests.support.world import CAPTURE, LIMITS, TEAMS, TIERS

MODEL = {"candidates": ["openai"], "price": {"input": "2.50", "output": "10"}, "context": 128_000}
UPSTREAMS: dict[str, Any] = {
    "openai": {"base_url": "https://api.openai.com/v1", "key": "sk-operator"},
    "waiting": {"base_url": "https://api.groq.com/openai/v1", "key": "${NOT_SET}"},
    "ollama": {"base_url": "http://127.0.0.1:11434/v1", "keyless": True},
    "vllm": {"base_url": "http://127.0.0.1:8000/v1", "key": "sk-vllm"},
    "free": {"base_url": "https://llm.example.com/v1", "keyless": True},
    "demo": {"base_url": "builtin:demo", "keyless": True},
    "anthropic": {"base_url": "https://api.anthropic.com/v1", "key": "sk-ant", "operations": ["messages"]},
    "dead": {"base_url": "http://127.0.0.1:9/v1", "keyless": True},
}


def write(folder: Path, byo: Any) -> Path:
    """A configuration with this section; returns its config.yaml."""
    config: dict[str, Any] = {
        "listeners": [{"name": "api", "kind": "reverse", "bind": "127.0.0.1:0"}],
        "chain": [],
        "upstreams": UPSTREAMS,
    }
    if byo is not None:
        config["byo"] = byo
    files = {
        "models": {"models": {"gpt-4o": MODEL}},
        "tiers": {"tiers": TIERS},
        "teams": TEAMS,
        "limits": LIMITS,
        "capture": {"capture": CAPTURE},
    }
    return write_folder(folder, config=config, policies=files) / "config.yaml"


def loaded(folder: Path, byo: Any, **environment: str) -> Byo:
    return load_generation(write(folder, byo), environment=environment).byo


def problems_of(folder: Path, byo: Any) -> list[str]:
    with pytest.raises(ConfigProblems) as caught:
        load_generation(write(folder, byo), environment={})
    return [str(problem) for problem in caught.value.problems]


def test_without_the_section_nothing_can_be_registered(tmp_path: Path) -> None:
    """No encryption key."""
    assert loaded(tmp_path, None).keys == ()


def test_upstreams_offered_are_public_and_ask_for_a_key(tmp_path: Path) -> None:
    """The operator's own machines would serve a made-up key for nothing; what waits for the operator's is offered."""
    assert loaded(tmp_path, None).upstreams == ("openai", "waiting", "anthropic")


def test_a_partners_machine_is_not_offered() -> None:
    """Its usage is the partner's account."""
    entry = UpstreamEntry(base_url="https://gpu.example.com/v1", key="k")
    for partner, offered in ((None, ("gpu",)), ("ann", ())):
        built = Upstreams(available={"gpu": Upstream("gpu", entry.base_url, "k", partner=partner)})
        made = build_byo(ByoEntry(), Marks("config.yaml"), [], entries={"gpu": entry}, upstreams=built)
        assert made.upstreams == offered


def test_a_list_offers_those_alone(tmp_path: Path) -> None:
    """None at all, too."""
    assert loaded(tmp_path, {"upstreams": ["anthropic"]}).upstreams == ("anthropic",)
    assert loaded(tmp_path, {"upstreams": []}).upstreams == ()


def test_keys_come_from_environment_and_file(tmp_path: Path) -> None:
    """In their order; one that is not set is left out."""
    first, second = new_key(), new_key()
    (tmp_path / "byo.key").write_text(second + "\n")
    section = {"keys": ["${BYO_KEY:-}", "file:byo.key", "${OLD_BYO_KEY:-}"]}
    assert loaded(tmp_path, section, BYO_KEY=first).keys == (first, second)
    assert loaded(tmp_path, section).keys == (second,)


def test_a_variable_without_default_has_to_be_set(tmp_path: Path) -> None:
    """Told at its place."""
    (problem,) = problems_of(tmp_path, {"keys": ["${BYO_KEY}"]})
    assert "byo.keys[0]" in problem and "BYO_KEY" in problem


@pytest.mark.parametrize("key", ["CANARY", "CANARY" * 8, "Q0FOQVJZ", new_key()[:-1], new_key() + "=", "é" * 44])
def test_what_is_no_key_is_refused_and_not_repeated(tmp_path: Path, key: str) -> None:
    """Its place, and how to make one."""
    (problem,) = problems_of(tmp_path, {"keys": [new_key(), key]})
    assert "byo.keys[1]" in problem
    assert "tollway byo new-key" in problem
    assert key not in problem


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"upstreams": ["opnai"]}, "Did you mean 'openai'?"),
        ({"upstreams": ["ollama"]}, "byo.upstreams[0]"),
        ({"upstreams": ["free"]}, "byo.upstreams[0]"),
        ({"allow_private": ["10.0.0.1"]}, "byo.allow_private[0]"),
        ({"allow_private": ["http://10.0.0.1:80"]}, "byo.allow_private[0]"),
        ({"ports": [0]}, "byo.ports[0]"),
        ({"ports": [65536]}, "byo.ports[0]"),
        ({"registrations_max": -1}, "byo.registrations_max"),
        ({"registrations_max": 1001}, "byo.registrations_max"),
        ({"keys": [new_key()] * 9}, "byo.keys"),
        ({"key": "x"}, "byo.key"),
    ],
)
def test_a_mistake_is_told_at_its_place(tmp_path: Path, section: Any, words: str) -> None:
    """With the near miss."""
    assert any(words in problem for problem in problems_of(tmp_path, section))


def test_hosts_are_compared_in_lower_case(tmp_path: Path) -> None:
    """As base URLs are written."""
    assert loaded(tmp_path, {"allow_private": ["VLLM.internal:8000"]}).allow_private == {"vllm.internal:8000"}


def test_no_repr_holds_an_encryption_key(tmp_path: Path) -> None:
    """Of the section, of the file, of the whole configuration."""
    key = new_key()
    generation = load_generation(write(tmp_path, {"keys": [key]}), environment={})
    for one in (generation.byo, generation.file, generation.file.byo, generation):
        assert key not in repr(one)


def test_a_reload_takes_the_section_over(tmp_path: Path) -> None:
    """So that encryption keys are changed without a restart."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    old = load_generation(write(tmp_path / "a", {"keys": [new_key()]}), environment={})
    new = load_generation(write(tmp_path / "b", {"keys": [new_key()]}), environment={})
    taken = merged(old, new)
    assert taken.generation.byo == new.byo
    assert taken.generation.file.byo == new.file.byo
    assert "byo" not in taken.needs_restart
    assert replace(old, byo=new.byo).byo == taken.generation.byo
