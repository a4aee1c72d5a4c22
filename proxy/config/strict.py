"""The base of every piece of a file."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A piece of a file: unknown keys refused, values frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
