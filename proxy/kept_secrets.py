"""Secrets of this machine's own, made at first sight in the state folder: what tokens and signatures derive from."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Final

SECRET_BYTES: Final = 32


class SecretUnreadable(Exception):
    """The secret in the state folder is not what was written there, or not secret; the message says what to do."""


def kept_secret(path: Path, *, guards: str, otherwise: str = "") -> bytes:
    """The secret kept at `path`, made at first sight: processes that begin at once agree on one.

    `guards` says what whoever reads it can do, `otherwise` what helps beside a backup.

    Raises SecretUnreadable, OSError.
    """
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            os.write(descriptor, secrets.token_bytes(SECRET_BYTES))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            os.link(fresh, path)
        except FileExistsError:
            return kept_secret(path, guards=guards, otherwise=otherwise)
        finally:
            fresh.unlink()
    secret = path.read_bytes()
    if path.stat().st_mode & stat.S_IRWXO:
        raise SecretUnreadable(f"every user of this machine can read {path}, and so {guards}: chmod 600 {path}")
    if len(secret) != SECRET_BYTES:
        raise SecretUnreadable(f"{path} does not hold {SECRET_BYTES} bytes: restore it from a backup{otherwise}")
    return secret
