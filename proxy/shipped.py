"""The configuration files that come with Tollway: beside the code in a checkout, under share/ once installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

FILES: Final = (
    "config.yaml",
    *(f"policies/{name}.yaml" for name in ("models", "tiers", "teams", "limits", "capture", "consensus")),
)


def folder() -> Path:
    """Where the shipped files are. Raises FileNotFoundError if the installation is broken."""
    places = (Path(__file__).resolve().parents[1], Path(sys.prefix) / "share" / "tollway")
    for place in places:
        if all((place / name).is_file() for name in FILES):
            return place
    raise FileNotFoundError(f"the files that Tollway ships are in none of {', '.join(map(str, places))}")
