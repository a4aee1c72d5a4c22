"""The environment, and comparing secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.secrets import SECRET_FILE_BYTES_MAX, SecretError, environment, expand, read_secret_file, same_secret


def test_the_environment_is_the_process_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read when asked, not when imported."""
    monkeypatch.setenv("TOLLWAY_TEST", "1")
    assert environment()["TOLLWAY_TEST"] == "1"


def test_texts_without_references_pass_as_they_are() -> None:
    """Dollars and braces alone mean nothing."""
    for text in ("", "$", "$5", "{x}", "a$b{c}"):
        assert expand(text, {}) == text


def test_a_default_holds_where_the_variable_is_unset_or_empty() -> None:
    """As in a shell's ${NAME:-default}."""
    assert expand("${A:-x}${B:-y}", {"A": "", "B": "b"}) == "xb"


def test_secrets_compare_whatever_they_hold() -> None:
    """Other lengths and letters beyond ASCII included."""
    assert same_secret("gehéim", "gehéim")
    assert not same_secret("a", "ab")
    assert not same_secret("", "a")


def test_a_secret_file_is_bounded_and_loses_its_line_end(tmp_path: Path) -> None:
    """Only at its end."""
    path = tmp_path / "key"
    path.write_text(" a\nb \r\n")
    assert read_secret_file(path) == " a\nb "
    path.write_text("x" * (SECRET_FILE_BYTES_MAX + 1))
    with pytest.raises(SecretError, match="larger than"):
        read_secret_file(path)
