"""The secret that all credentials are derived from, where the configuration gives none."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.kept_secrets import SECRET_BYTES, SecretUnreadable
from proxy.payments.rails import kept_secret


def test_secret_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    """In a folder that need not be there yet; nothing else is left in it."""
    path = tmp_path / "var" / "payments.key"
    made = kept_secret(path)
    assert len(made) == SECRET_BYTES
    assert kept_secret(path) == made != kept_secret(tmp_path / "other")
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o606, 0o666])
def test_secret_that_everybody_can_read_stops_the_start(tmp_path: Path, mode: int) -> None:
    """Whoever reads it makes the tokens of other people's balances."""
    path = tmp_path / "payments.key"
    kept_secret(path)
    path.chmod(mode)
    with pytest.raises(SecretUnreadable, match="chmod 600"):
        kept_secret(path)


def test_secret_that_its_group_can_read_is_taken(tmp_path: Path) -> None:
    """As volumes of a cluster have it."""
    path = tmp_path / "payments.key"
    made = kept_secret(path)
    path.chmod(0o660)
    assert kept_secret(path) == made


def test_secret_that_was_cut_off_stops_the_start(tmp_path: Path) -> None:
    """Another one would make every balance's token unknown."""
    path = tmp_path / "payments.key"
    path.write_bytes(b"x" * 31)
    path.chmod(0o600)
    with pytest.raises(SecretUnreadable, match="backup"):
        kept_secret(path)
