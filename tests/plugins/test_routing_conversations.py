"""Conversations: what makes two requests turns of one, and how long that is remembered."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.routing.conversations import Conversations, conversation_of
from proxy.headers import Headers

NAMES = ("x-session-id", "x-conversation-id")
SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "What is a proxy?"}
LATER = [{"role": "assistant", "content": "A go-between."}, {"role": "user", "content": "And a reverse one?"}]


def digest(document: dict[str, Any], *, caller: str = "key_1", model: str = "m", **headers: str) -> bytes | None:
    fields = Headers({name.replace("_", "-"): value for name, value in headers.items()})
    return conversation_of(caller, model, fields, NAMES, document)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"messages": [SYSTEM, USER]}, {"messages": [SYSTEM, USER, *LATER]}),
        ({"system": "Be brief.", "messages": [USER]}, {"system": "Be brief.", "messages": [USER, *LATER]}),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]},
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, *LATER]},
        ),
        ({"instructions": "x", "input": [USER]}, {"instructions": "x", "input": [USER, *LATER]}),
    ],
)
def test_later_turns_belong_to_the_same_conversation(first: dict[str, Any], second: dict[str, Any]) -> None:
    """In every format."""
    assert digest(first) == digest(second) is not None


def test_another_opening_caller_or_model_is_another_conversation() -> None:
    """Nobody's conversation is found by what somebody else says."""
    document = {"messages": [SYSTEM, USER]}
    found = {
        digest(document),
        digest(document, caller="key_2"),
        digest(document, model="n"),
        digest({"messages": [USER]}),
        digest({"messages": [SYSTEM, {"role": "user", "content": "What is a cache?"}]}),
        digest({"messages": [SYSTEM, {"role": "user", "content": "What is", "x": " a proxy?"}]}),
    }
    assert len(found) == 6


def test_header_names_it_whatever_is_said() -> None:
    """The first of the names wins; the name of another caller is another's."""
    one = digest({"messages": [USER]}, x_session_id="s1")
    assert one == digest({"messages": LATER}, x_session_id="s1", x_conversation_id="c")
    assert one != digest({"messages": [USER]}, x_session_id="s2")
    assert one != digest({"messages": [USER]}, x_session_id="s1", caller="key_2")


@pytest.mark.parametrize(
    "document",
    [{}, {"messages": []}, {"messages": 7}, {"messages": [1]}, {"messages": [{"role": "user"}]},
     {"messages": [{"role": "user", "content": [{"type": "image_url"}, 7]}]}, {"input": [[1, 2]]}],
)  # fmt: skip
def test_without_text_there_is_no_conversation(document: dict[str, Any]) -> None:
    """And nonsense is no fault of ours."""
    assert digest(document) is None


def test_lone_surrogates_are_digested() -> None:
    """A JSON escape may hold what UTF-8 cannot."""
    assert digest({"messages": [{"role": "user", "content": "\ud800"}]}) is not None


def test_memory_ends_with_time_and_is_bounded() -> None:
    """The longest unused is forgotten first; each turn begins its time anew."""
    known = Conversations(seconds=10.0, entries_max=2)
    known.note(b"1", "a", "m", 0.0)
    known.note(b"2", "b", "m", 0.0)
    known.note(b"1", "a", "m", 5.0)
    known.note(b"3", "c", "m", 6.0)
    assert (len(known), known.served_by(b"2", 6.0)) == (2, None)
    assert known.served_by(b"1", 14.9) == ("a", "m")
    assert known.served_by(b"1", 15.0) is None
    assert len(known) == 1
