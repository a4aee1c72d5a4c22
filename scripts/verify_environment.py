"""Verify that the environment is what the lock says and that the packages' own requirements hold.

Packages are installed without resolution, so this is what shows that the lock is whole: every locked package is
there in its version, nothing else is, and every requirement that a package states is met.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

OUTSIDE = frozenset({"pip", "setuptools", "wheel"})
"""What a fresh environment may bring along."""

INSTALLED_BARE = frozenset({"cashu"})
"""Packages of requirements-bare.in: installed without what they ask for."""

_PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)(?: *; *([^\\]+?))?\s*\\?$", re.MULTILINE)


def locked(lock: Path) -> dict[str, str]:
    """Name -> version of every pin whose marker holds here."""
    pins = {}
    for name, version, marker in _PIN.findall(lock.read_text()):
        if not marker or Marker(marker).evaluate():
            pins[canonicalize_name(name)] = version
    return pins


def unmet(distribution: Distribution, versions: dict[str, str]) -> list[str]:
    """The requirements of one package that the environment does not meet."""
    problems = []
    name = canonicalize_name(distribution.metadata["Name"])
    for text in distribution.requires or ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            problems.append(f"{name}: its requirement '{text}' cannot be read")
            continue
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = versions.get(canonicalize_name(requirement.name))
        if found is not None and requirement.specifier.contains(found, prereleases=True):
            continue
        problems.append(f"{name} needs {requirement.name}{requirement.specifier}, here is {found or 'none'}")
    return problems


def main(lock: Path) -> int:
    """Print what is wrong; 0 if nothing is."""
    pins = locked(lock)
    installed = {canonicalize_name(found.metadata["Name"]): found for found in distributions()}
    versions = {name: found.version for name, found in installed.items()}
    problems = [
        f"{name}: {lock.name} says {version}, here is {versions.get(name, 'none')}"
        for name, version in pins.items()
        if versions.get(name) != version
    ]
    problems += [
        f"{name} is installed but not in {lock.name}: remove .venv and run 'make setup'"
        for name in sorted(versions.keys() - pins.keys() - OUTSIDE)
    ]
    for name in sorted(installed.keys() - OUTSIDE - INSTALLED_BARE):
        problems += unmet(installed[name], versions)
    for problem in problems:
        sys.stderr.write(f"setup: {problem}\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
