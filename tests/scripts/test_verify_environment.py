"""scripts/verify_environment.py: an installed set that differs from its lock is noticed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements-dev.lock"


def verify(lock: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "verify_environment.py"), str(lock)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_this_environment_is_what_the_lock_says() -> None:
    """Nothing missing, nothing more, every requirement met."""
    found = verify(LOCK)
    assert (found.returncode, found.stderr) == (0, "")


def test_another_version_and_an_absent_package_are_noticed(tmp_path: Path) -> None:
    """Each by name."""
    text = LOCK.read_text().replace("\ntyper==", "\ntyper==0.0.", 1)
    lock = tmp_path / "requirements.lock"
    lock.write_text(text + "no-such-package==1.0 \\\n    --hash=sha256:00\n")
    found = verify(lock)
    assert found.returncode == 1
    assert "setup: typer: requirements.lock says 0.0." in found.stderr
    assert "setup: no-such-package: requirements.lock says 1.0, here is none" in found.stderr


def test_a_package_that_the_lock_does_not_name_is_noticed(tmp_path: Path) -> None:
    """It could hide what the lock lacks."""
    lock = tmp_path / "requirements.lock"
    lock.write_text(LOCK.read_text().replace("\ntrustme==", "\nother==", 1))
    assert "trustme is installed but not in requirements.lock" in verify(lock).stderr


def test_no_lock_names_an_index_address() -> None:
    """They install from whatever index the machine uses."""
    for name in ("requirements.lock", "requirements-dev.lock"):
        assert "://" not in (ROOT / name).read_text()
