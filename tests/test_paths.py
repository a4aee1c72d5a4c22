"""Templates, model names in paths, and what a spelling comes down to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.paths import PATH_CHARS_MAX, Template, TooDeep, foldings, is_endpoint, is_id, is_model, is_template


@pytest.mark.parametrize("text", ["/v1/chat/completions", "/openai/deployments/{model}/chat/completions", "/{model}"])
def test_templates_in_canonical_form(text: str) -> None:
    """Lower case, plain segments, at most one model."""
    assert is_template(text)


@pytest.mark.parametrize(
    "text", ["", "/", "v1", "/V1", "/a/", "/a//b", "/a/../b", "/./a", "/{model}/{model}", "/a{model}", "/%41"]
)
def test_other_templates_are_refused(text: str) -> None:
    """What could not be matched exactly."""
    assert not is_template(text)


@pytest.mark.parametrize("name", ["gpt-4o", "meta-llama/Llama-3.3-70B", "a:free", "@cf/x", "ft:gpt:org::id"])
def test_models_may_have_a_vendor(name: str) -> None:
    """One segment or more."""
    assert Template("/v1/chat/completions/{model}").value(f"/v1/chat/completions/{name}") == name
    assert Template("/d/{model}/chat").value(f"/d/{name}/chat") == name


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", ".", "..", "a/../b", "a%2fb", "a b", "a;b", "a\\b", "ä"])
def test_what_is_not_plainly_a_model_is_none(name: str) -> None:
    """Nothing encoded, no empty or dot segment."""
    assert not is_model(name)
    assert Template("/d/{model}/chat").value(f"/d/{name}/chat") is None


@pytest.mark.parametrize("text", ["/v1/balance", "/v1/payments/{id}", "/.well-known/l402", "/v1/a/{id}/b"])
def test_paths_that_an_endpoint_may_have(text: str) -> None:
    """Canonical, with at most one id."""
    assert is_endpoint(text)


@pytest.mark.parametrize(
    "text", ["/v1/{id}/{id}", "/v1/{model}", "/v1/x{ID}", "/v1/{name}", "/V1/{id}", "/v1//{id}", "/v1/{id}/", "{id}"]
)
def test_paths_that_no_endpoint_may_have(text: str) -> None:
    """No other parameter, no model, nothing that is not canonical."""
    assert not is_endpoint(text)


def test_an_id_is_one_plain_segment() -> None:
    """Nothing encoded, no slash, no dot, bounded."""
    template = Template("/v1/payments/{id}")
    assert template.value("/v1/payments/pay_0aF-9") == "pay_0aF-9"
    for other in ("", "a/b", "a.b", "..", "%41", "a%2fb", "ä", "a b", "a;b", "a" * 65):
        assert not is_id(other)
        assert template.value(f"/v1/payments/{other}") is None
    assert not is_template("/v1/payments/{id}")


def test_a_template_needs_something_at_the_models_place() -> None:
    """Its two ends do not overlap."""
    template = Template("/a/{model}/a")
    assert template.between("/a/a") is None
    assert template.between("/a//a") is None
    assert template.between("/a/x/a") == "x"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions/", "//v1/chat/completions", "/v1//chat/completions", "/V1/Chat/Completions",
        "/v1/chat%2Fcompletions", "/v1/chat%252Fcompletions", "/v1/%63hat/completions", "/v1/./chat/completions",
        "/v1/x/../chat/completions", "/v1/%2e%2e/v1/chat/completions", "/v1\\chat\\completions",
        "/v1/chat/completions;a=b", "/v1/chat;x/completions", "/v1/chat/completions%3Fa", "/v1/chat/completions%23",
        "/v1/chat/completions%00.json", "/v1/chat/completions%20", "/v1/chat/completions.",
        "/v1/chat/..;/chat/completions", "v1/chat/completions", "/v1/chat%c0%afcompletions",
        "/v1/chat\uff0fcompletions", "/v1/chat\uff052fcompletions", "/v1/chat%2\u200bfcompletions",
        "/v1/chat%2%00fcompletions", "/v1/cha\u200bt/completions", "/v1/\uff43hat/completions",
        "/v1/chat/completion\u017f", "/x%23/../v1/chat/completions", "/v1/chat/../completions",
        "/v1/chat/comple%0ations",
    ],
)  # fmt: skip
def test_spellings_that_some_server_normalises(path: str) -> None:
    """Each comes down to the plain path in one of the four ways."""
    assert "/v1/chat/completions" in foldings(path)


def test_a_plain_path_comes_down_to_itself() -> None:
    """And to nothing else."""
    assert foldings("/v1/responses/resp_1") == {"/v1/responses/resp_1"}


def test_endless_layers_and_lengths_are_refused() -> None:
    """Bounded work for any path."""
    with pytest.raises(TooDeep):
        foldings("/%" + "25" * 40 + "2f")
    with pytest.raises(TooDeep):
        foldings("/" + "a" * PATH_CHARS_MAX)


@given(st.text(max_size=40))
def test_folding_is_idempotent(path: str) -> None:
    """What came out comes down to itself."""
    for plain in foldings("/" + path):
        assert plain in foldings(plain)
