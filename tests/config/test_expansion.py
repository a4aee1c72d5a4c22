"""References to the environment and to secret files."""

from __future__ import annotations

from pathlib import Path

from proxy.config.expansion import Expanded, expand_document
from proxy.config.source import parse_document


def expanded(text: str, root: Path, **variables: str) -> Expanded:
    return expand_document(
        parse_document(text.encode(), "f.yaml"),
        variables,
        root=root,
        secret=lambda path: path[-1] == "secret",
        optional=lambda path: path[-1] == "optional",
    )


def test_variables_and_defaults_are_replaced_in_texts(tmp_path: Path) -> None:
    """Anywhere in a value, several times, in lists too; never in a key."""
    found = expanded("a: ${X}-${Y:-d}\nb: ['${X}', 1]\n${X}: c\nd: ${Y:-}", tmp_path, X="v")
    assert found.data == {"a": "v-d", "b": ["v", 1], "${X}": "c", "d": ""}
    assert not found.problems


def test_what_comes_in_is_not_expanded_again(tmp_path: Path) -> None:
    """A variable's value cannot pull in another one."""
    assert expanded("a: ${X}", tmp_path, X="${Y}", Y="secret").data == {"a": "${Y}"}


def test_a_literal_reference_can_be_written(tmp_path: Path) -> None:
    """$${ stands for ${; a lone dollar needs nothing."""
    assert expanded("a: $${X} costs $5", tmp_path, X="v").data == {"a": "${X} costs $5"}


def test_an_unset_variable_is_a_problem_with_its_place(tmp_path: Path) -> None:
    """Empty counts as unset."""
    found = expanded("a: 1\nb: ${NOPE}", tmp_path, NOPE="")
    assert [str(problem) for problem in found.problems] == [
        "f.yaml:2:4: b: the environment variable NOPE is not set: set it, or write ${NOPE:-default}"
    ]


def test_an_optional_secret_that_is_unset_is_none_and_named(tmp_path: Path) -> None:
    """So that the operator can be told which variable to set."""
    found = expanded("optional: ${KEY}", tmp_path)
    assert found.data == {"optional": None}
    assert found.unset == {("optional",): "KEY"}


def test_malformed_references_are_problems(tmp_path: Path) -> None:
    """A typo does not become a literal."""
    assert len(expanded("a: ${}\nb: ${X\nc: ${1X}\nd: ${X:?no}", tmp_path, X="v").problems) == 4


def test_secret_files_are_read_only_where_a_secret_may_stand(tmp_path: Path) -> None:
    """`file:` elsewhere is a text like any other."""
    (tmp_path / "key").write_text("s3cret\n")
    found = expanded("secret: file:key\nother: file:key", tmp_path)
    assert found.data == {"secret": "s3cret", "other": "file:key"}


def test_a_secret_file_that_cannot_be_used_is_a_problem(tmp_path: Path) -> None:
    """Absent, empty, a folder, binary."""
    (tmp_path / "empty").touch()
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name in ("none", "empty", ".", "binary"):
        assert len(expanded(f"secret: file:{name}", tmp_path).problems) == 1
