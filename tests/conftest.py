"""What all tests share: those that need a program beside Python are left out loudly where it is missing."""

from __future__ import annotations

import shutil

import pytest

_MISSING = pytest.StashKey[dict[str, int]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-all",
        action="store_true",
        help="Fail where a program that tests need is missing (continuous integration).",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_MISSING] = {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept, left_out = [], []
    for item in items:
        absent = [
            program for mark in item.iter_markers("needs") for program in mark.args if shutil.which(program) is None
        ]
        for program in absent:
            config.stash[_MISSING][program] = config.stash[_MISSING].get(program, 0) + 1
        (left_out if absent else kept).append(item)
    if left_out and config.getoption("--require-all"):
        raise pytest.UsageError(f"missing programs: {', '.join(sorted(config.stash[_MISSING]))}")
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for program, count in sorted(config.stash[_MISSING].items()):
        terminalreporter.write_line(
            f"LEFT OUT: {count} tests, because '{program}' is not installed", red=True, bold=True
        )
