"""Words that a caller may use of a consensus, known to wire formats, which know no money."""

from __future__ import annotations

from typing import Final

DOMAINS: Final = ("general", "legal", "medical", "financial", "technical", "creative")
AUTO: Final = "auto"
"""As a mode: the first of `Consensus.auto`, and where it disagrees the second. As a domain: find out."""
