"""The journal: nothing that was written is lost, nothing of another plan is read."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from proxy.evaluation.errors import BadJournal, BadPlan, Stopped
from proxy.evaluation.journal import OK, Entry, Journal

PLAN = "a" * 64
ONE = Entry("answer|q-1|ours", OK, text="Ümläut\n", cost=5, extra={"fingerprint": "x"})
TWO = Entry("rubric|q-1|ours|judge-one", OK, verdict=[True, False])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """With two entries."""
    path = tmp_path / "journal.jsonl"
    with Journal(path, PLAN) as journal:
        journal.add(ONE)
        journal.add(TWO)
    return path


def test_entries_are_read_as_they_were_written(path: Path) -> None:
    """And by their owner alone."""
    assert Journal(path, PLAN).read().entries == {ONE.key: ONE, TWO.key: TWO}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_line_that_was_cut_is_dropped_and_written_again(path: Path) -> None:
    """By the end of the process."""
    path.write_bytes(path.read_bytes()[:-7])
    journal = Journal(path, PLAN).read()
    assert list(journal.entries) == [ONE.key]
    with journal:
        journal.add(TWO)
    assert Journal(path, PLAN).read().entries == {ONE.key: ONE, TWO.key: TWO}


def test_a_head_that_was_cut_begins_anew(path: Path) -> None:
    """Nothing was in it."""
    path.write_bytes(b'{"journal": 1, "pl')
    with Journal(path, PLAN).read() as journal:
        journal.add(ONE)
    assert list(Journal(path, PLAN).read().entries) == [ONE.key]


def test_another_plans_results_are_refused(path: Path) -> None:
    """Whatever they are."""
    with pytest.raises(BadPlan, match="another plan"):
        Journal(path, "b" * 64).read()


@pytest.mark.parametrize("line", [b"not json\n", b"[1]\n", b'{"surprise": 1}\n', b"\n"])
def test_damage_before_the_last_line_is_named(path: Path, line: bytes) -> None:
    """What is missing is not known."""
    head, first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(head + first + line + second)
    with pytest.raises(BadJournal, match=":3:"):
        Journal(path, PLAN).read()


def test_no_journal_is_an_empty_one(tmp_path: Path) -> None:
    """And nothing is written to one that is not open."""
    journal = Journal(tmp_path / "none.jsonl", PLAN).read()
    assert journal.entries == {}
    with pytest.raises(RuntimeError, match="not open"):
        journal.add(ONE)


def test_two_runs_do_not_write_one_journal(path: Path) -> None:
    """The second is told, and writes nothing."""
    before = path.read_bytes()
    with Journal(path, PLAN), pytest.raises(Stopped, match="Another run"), Journal(path, PLAN):
        pytest.fail("entered")
    assert path.read_bytes() == before
