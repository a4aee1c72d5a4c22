"""Opening the file."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from proxy.ledger.schema import VERSION, SchemaTooNew, connect


def test_a_new_file_has_its_tables_and_a_log(tmp_path: Path) -> None:
    """Write-ahead log, this version, private to its owner."""
    path = tmp_path / "var" / "tollway.db"
    with closing(connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
    assert path.stat().st_mode & 0o077 == 0


def test_a_file_is_not_made_for_readers(tmp_path: Path) -> None:
    """A report on nothing is an error, not an empty ledger."""
    with pytest.raises(FileNotFoundError):
        connect(tmp_path / "tollway.db", create=False)
    assert not (tmp_path / "tollway.db").exists()


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    """Nobody writes into tables that he does not know."""
    path = tmp_path / "tollway.db"
    with closing(connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={VERSION + 1}")
    with pytest.raises(SchemaTooNew):
        connect(path)


def test_the_tables_take_no_floats(tmp_path: Path) -> None:
    """Money is an integer, in the file as well."""
    with closing(connect(tmp_path / "tollway.db")) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute("INSERT INTO transfers VALUES (1, 1, 1, 2, 0.5, 0)")


def test_processes_that_start_together_make_one_file(tmp_path: Path) -> None:
    """Whoever comes first makes the tables; nobody fails."""
    program = (
        "import sys; from pathlib import Path; from proxy.ledger.schema import connect; connect(Path(sys.argv[1]))"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "tollway.db")], cwd=Path(__file__).parents[2])
        for _ in range(4)
    ]
    assert [process.wait(60) for process in started] == [0] * 4


def test_a_command_beside_a_running_process_leaves_its_log_alone(tmp_path: Path) -> None:
    """Several connections of one process are open, another process comes and goes: the log in use is not deleted."""
    path = tmp_path / "tollway.db"
    with closing(connect(path)) as first, closing(connect(path)):
        first.execute("UPDATE key_generation SET generation=7")
        command = "import sys; from pathlib import Path; from proxy.ledger.schema import connect; "
        command += "connection = connect(Path(sys.argv[1])); "
        command += "print(*connection.execute('SELECT generation FROM key_generation').fetchone()); connection.close()"
        seen = subprocess.run([sys.executable, "-c", command, path], capture_output=True, text=True, check=True)
        assert seen.stdout == "7\n"
        assert path.with_name("tollway.db-wal").exists()
