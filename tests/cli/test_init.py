"""tollway init."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from proxy import shipped
from proxy.cli import app

RUNNER = CliRunner()


def test_it_writes_a_configuration_that_is_in_order(tmp_path: Path) -> None:
    """All files, word for word what ships, and 'tollway check' agrees."""
    folder = tmp_path / "deep" / "etc"
    result = RUNNER.invoke(app, ["init", str(folder)])
    assert result.exit_code == 0, result.output
    for name in shipped.FILES:
        assert (folder / name).read_bytes() == (shipped.folder() / name).read_bytes()
    checked = RUNNER.invoke(app, ["check", "--config", str(folder / "config.yaml")])
    assert checked.exit_code == 0, checked.output
    assert f"tollway serve --config {folder}/config.yaml" in result.output


def test_without_a_folder_it_writes_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next steps need no option."""
    monkeypatch.chdir(tmp_path)
    result = RUNNER.invoke(app, ["init"])
    assert (tmp_path / "config.yaml").is_file()
    assert "tollway serve\n" in result.output


def test_it_overwrites_nothing_unless_told_to(tmp_path: Path) -> None:
    """One file in the way keeps all of them from being written."""
    (tmp_path / "policies").mkdir()
    mine = tmp_path / "policies" / "teams.yaml"
    mine.write_text("mine")
    refused = RUNNER.invoke(app, ["init", str(tmp_path)])
    assert refused.exit_code == 2
    assert str(mine) in refused.output
    assert mine.read_text() == "mine"
    assert not (tmp_path / "config.yaml").exists()
    assert RUNNER.invoke(app, ["init", str(tmp_path), "--force"]).exit_code == 0
    assert mine.read_bytes() == (shipped.folder() / "policies" / "teams.yaml").read_bytes()


def test_a_folder_that_cannot_be_written_is_an_error_with_its_reason(tmp_path: Path) -> None:
    """No traceback."""
    (tmp_path / "file").touch()
    result = RUNNER.invoke(app, ["init", str(tmp_path / "file" / "x")])
    assert result.exit_code == 2
    assert "cannot be written" in result.output
