"""The content rules that ship: what credentials, card numbers and mail addresses look like.

A rule is named in policies/teams.yaml by its key here. Each pattern asks for a shape that ordinary prose, code and
identifiers do not have: a prefix that an issuer chose for being found, and the length that it issues. What has no
such shape (an AWS secret key is 40 letters like any others) is matched beside its usual name only.
"""

from __future__ import annotations

from typing import Final

from proxy.policy.rules import ContentRule

_TOKEN: Final = "[A-Za-z0-9_-]"  # noqa: S105 - a class of letters
_GAP: Final = r"(?:\s|\\[rn])*"
"""Between the lines of a key file; also where the line ends are spelt out, as in a .env file."""
_PRIVATE_KEY: Final = r"[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"

_API_KEYS: Final = (
    # OpenAI, Anthropic, OpenRouter, Langfuse: a kind, then random letters.
    rf"\bsk-(?:proj|svcacct|admin|ant|or|lf)-{_TOKEN}{{24,}}",
    # OpenAI's older keys (48), DeepSeek (32), Moonshot (48), Stability (48).
    r"\bsk-[A-Za-z0-9]{32,}",
    # Tollway's own.
    r"\blld_[0-9a-f]{32}",
    # Groq, Cerebras, xAI, NVIDIA, Perplexity, Replicate, Hugging Face.
    rf"\b(?:gsk_[A-Za-z0-9]{{40,}}|csk-[a-z0-9]{{40,}}|xai-[A-Za-z0-9]{{64,}}|nvapi-{_TOKEN}{{40,}})",
    r"\b(?:pplx-[A-Za-z0-9]{40,}|r8_[A-Za-z0-9]{37}|hf_[A-Za-z]{34})",
    # GitHub, GitLab, npm, PyPI.
    r"\b(?:gh[opusr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{36,}|npm_[A-Za-z0-9]{36})",
    rf"\b(?:glpat-{_TOKEN}{{20,}}|pypi-AgE{_TOKEN}{{50,}})",
    # AWS: the id by its shape, the secret beside its name.
    r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b",
    r"""(?i:aws_?secret_?(?:access_?)?key)["'\s:=]{1,8}[A-Za-z0-9/+]{40}""",
    # Google: API keys and client secrets.
    rf"\bAIza{_TOKEN}{{35}}",
    rf"\bGOCSPX-{_TOKEN}{{28}}",
    # Slack: tokens and incoming webhooks.
    r"\bxox[abeprs]-[A-Za-z0-9-]{20,}",
    r"\bhooks\.slack\.com/services/T[A-Z0-9]{6,}/B[A-Z0-9]{6,}/[A-Za-z0-9]{20,}",
    # Stripe (live ones), SendGrid.
    r"\b[sr]k_live_[A-Za-z0-9]{16,}",
    rf"\bSG\.{_TOKEN}{{22}}\.{_TOKEN}{{43}}",
    # JSON web tokens: two parts that begin like a JSON object, and a signature.
    rf"\beyJ{_TOKEN}{{10,}}\.eyJ{_TOKEN}{{10,}}\.{_TOKEN}{{20,}}",
    # A private key in PEM: from its first line on, as far as it goes.
    rf"-----BEGIN {_PRIVATE_KEY}(?:{_GAP}[A-Za-z0-9+/=]{{20,}})*"
    rf"(?:{_GAP}(?:[A-Za-z0-9+/=]{{1,19}}{_GAP})?-----END {_PRIVATE_KEY})?",
)

_SEPARATOR: Final = r"[ \x{a0}\x{2009}\x{202f}-]?"
_CARD_NUMBERS: Final = (
    # Visa, Amex, Diners, JCB, Maestro, Discover, UnionPay: 13 to 19 digits that begin with 3 to 6.
    rf"\b[3-6](?:{_SEPARATOR}[0-9]){{12,18}}\b",
    # Mastercard's newer range.
    rf"\b2(?:{_SEPARATOR}[0-9]){{15}}\b",
)

_MAIL_ADDRESSES: Final = (r"[A-Za-z0-9][A-Za-z0-9._%+'-]*@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}",)


def _rule(name: str, patterns: tuple[str, ...], replacement: str, chars_max: int, check: str | None) -> ContentRule:
    return ContentRule(
        name=name,
        pattern="|".join(patterns),
        action="redact",
        replacement=replacement,
        match_chars_max=chars_max,
        check=check,
    )


PATTERNS: Final[dict[str, ContentRule]] = {
    rule.name: rule
    for rule in (
        # A private key of 8192 bits is 6,400 characters in PEM.
        _rule("api_keys", _API_KEYS, "[key removed]", 8192, None),
        _rule("card_numbers", _CARD_NUMBERS, "[card number removed]", 40, "luhn"),
        # The longest valid address has 254 characters.
        _rule("mail_addresses", _MAIL_ADDRESSES, "[mail address removed]", 254, None),
    )
}
"""Rules by name. Each redacts, in requests and answers; an entry in teams.yaml may say otherwise."""
