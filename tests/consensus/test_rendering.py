"""A conversation as others than its addressee read it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.consensus.rendering import (
    FILE_NOTE,
    IMAGE_NOTE,
    text_of,
    tools_text,
    transcript,
    with_system,
    with_user,
    without_images,
    without_tools,
)

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,SECRET"}}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("words", "words"),
        (None, ""),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "a\nb"),
        ([PICTURE, {"type": "text", "text": "a"}], f"{IMAGE_NOTE}\na"),
        ([{"type": "input_audio", "input_audio": {}}], FILE_NOTE),
        ([{"type": "refusal", "refusal": "no"}], "no"),
    ],
)
def test_text_of_content(content: Any, text: str) -> None:
    """What is no text is noted."""
    assert text_of(content) == text


def test_pictures_become_notes() -> None:
    """No byte of them is left."""
    found = without_images(({"role": "user", "content": [PICTURE]}, {"role": "user", "content": "x"}))
    assert found == ({"role": "user", "content": IMAGE_NOTE}, {"role": "user", "content": "x"})


def test_calls_and_results_become_text() -> None:
    """In order, with the function's name; neighbours of one role are one message."""
    messages = (
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": "Looking.", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "7"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "8"}]},
        {"role": "assistant", "content": None, "function_call": {"name": "g", "arguments": "{}"}},
        {"role": "function", "name": "g", "content": "9"},
    )
    assert without_tools(messages) == (
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": 'Looking.\n[Called f with {"a": 1}]'},
        {"role": "user", "content": "[Result of f]\n7\n\n[Result of the function]\n8"},
        {"role": "assistant", "content": "[Called g with {}]"},
        {"role": "user", "content": "[Result of g]\n9"},
    )


def test_system_prompt_is_one_message_with_the_callers() -> None:
    """Ours comes behind, in the caller's own role."""
    user = {"role": "user", "content": "x"}
    assert with_system((user,), "told") == ({"role": "system", "content": "told"}, user)
    own = {"role": "developer", "content": "own"}
    assert with_system((own, user), "told") == ({"role": "developer", "content": "own\n\ntold"}, user)


def test_material_joins_the_users_last_message() -> None:
    """Roles go on taking turns, and pictures stay."""
    assert with_user(({"role": "user", "content": "x"},), "m") == ({"role": "user", "content": "x\n\nm"},)
    seen = with_user(({"role": "user", "content": [PICTURE]},), "m")
    assert seen[0]["content"] == [PICTURE, {"type": "text", "text": "m"}]
    assert with_user(({"role": "tool", "content": "7"},), "m")[-1] == {"role": "user", "content": "m"}


def test_transcript_names_who_speaks() -> None:
    """As one text."""
    messages = ({"role": "system", "content": "s"}, {"role": "user", "content": [PICTURE]})
    assert transcript(messages) == f"system: s\n\nuser: {IMAGE_NOTE}"


def test_descriptions_of_tools_are_bounded() -> None:
    """Many or long ones are cut."""
    tool = {"type": "function", "function": {"name": "f", "description": "x" * 50_000}}
    assert len(tools_text([tool])) == 32_000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"role": st.sampled_from(["system", "user", "assistant", "tool", "function"])},
            optional={"content": JSON, "tool_calls": JSON, "function_call": JSON, "name": JSON, "tool_call_id": JSON},
        ),
        max_size=6,
    )
)
def test_messages_of_any_shape_are_rendered(messages: list[dict[str, Any]]) -> None:
    """Never an exception: what a provider makes of them is the provider's business."""
    shown = with_user(with_system(without_images(without_tools(messages)), "told"), "said")
    assert not any(message["role"] in ("tool", "function") for message in shown)
    assert isinstance(transcript(messages), str)
