"""What credentials and prompts look like inside other text. Each pattern runs in linear time on bounded text."""

from __future__ import annotations

import re
from typing import Final

CREDENTIALS: Final = re.compile(
    r"""
      -----BEGIN[ ][A-Z ]{0,40}PRIVATE[ ]KEY-----.*?(?:-----END[ ][A-Z ]{0,40}PRIVATE[ ]KEY-----|\Z)
    | \b sk-[A-Za-z0-9_\-]{6,}                                  # OpenAI, Anthropic, OpenRouter, DeepSeek
    | \b (?:lld|bal)_[A-Za-z0-9_\-]{6,}                         # our own keys and balances
    | \b (?:gsk|hf|xai|nvapi|csk|tgp|pplx|r8|fw|sk|rk|pk|whsec|ghp|gho|ghs|glpat)[_\-]
         (?=[A-Za-z0-9_\-]{0,80}[0-9])[A-Za-z0-9_\-]{8,}
    | \b AIza[A-Za-z0-9_\-]{20,}                                # Google
    | \b (?!req_|key_)[a-z][a-z0-9]{1,15}[_\-][0-9a-f]{32,}\b   # our keys under a configured prefix
    | \b (?:AKIA|ASIA|AIDA|AROA)[A-Z0-9]{12,}                   # AWS
    | \b cashu[AB][A-Za-z0-9_\-+/=]{10,}
    | \b (?:AgE|MDAx)[A-Za-z0-9_\-+/=]{16,}(?::[0-9a-fA-F]+)?   # macaroons, versions 2 and 1, with a preimage
    | \b eyJ[A-Za-z0-9_\-+/=]{12,}(?:\.[A-Za-z0-9_\-]*){0,2}    # JWT; base64 of JSON, as in x402 headers
    | \b (?:eyA|ewo|ew0|ewk)[A-Za-z0-9_\-+/=]{20,}              # the same of JSON that begins with a space
    | (?<=/v[23]/)[A-Za-z0-9_\-]{24,}                           # the key in a JSON-RPC provider's URL
    | \b (?:0x)?[0-9a-fA-F]{128,}\b                             # signatures
    """,
    re.DOTALL | re.VERBOSE,
)

SCHEMES: Final = re.compile(r"\b(Bearer|Basic|L402|LSAT)(?:\s+|%20)[^\s'\"]{4,}(?:(?<==)\"[^\"]*\"?)?", re.IGNORECASE)
"""A credential of an Authorization header; the scheme is group 1. Some prose is lost with it, on purpose."""

USERINFO: Final = re.compile(r"(?<=://)[^\s/@'\"]{1,512}@")
"""USER:PASSWORD@ of a URL: a proxy's is one of our keys."""

_CREDENTIAL_WORDS: Final = (
    r"proxy[-_]authorization|authorization|x[-_]api[-_]key|api[-_]?key|x[-_]payment|payment[-_]signature|x[-_]cashu|"
    r"set[-_]cookie|cookie|secret[-_]access[-_]key|client[-_]secret|secret|password|passwd|token|preimage|macaroon|"
    r"signature|(?:private|signer)[-_]key|credentials?|mnemonic|rune|(?<=[?&])key"
)
SECRET_FIELDS: Final = re.compile(
    rf"((?:\b|_)(?:{_CREDENTIAL_WORDS})"
    r"(?:\\?['\"]?\s*[:=]\s*|\\?['\"],\s*)b?\\?['\"]?)"
    r"(?:(?:Bearer|Basic|L402|LSAT|Payment|Token)\s+)?[^\s'\"&,;\\]+(?:(?<==)\"[^\"]*\"?)?",
    re.IGNORECASE,
)
"""`name: value`, `name=value`, `"name": "value"` or `(b'name', b'value')`; all before the value is group 1."""

_CONTENT_WORDS: Final = (
    r"prompt|content|input_text|output_text|input|text|completion|instructions|system|arguments|thinking|partial_json|"
    r"reasoning_content|refusal|body"
)
_STRING: Final = (
    r"(?:\\\"(?:[^\\]|\\\\(?:\\\")?|\\[^\"\\]|\\\Z)*(?:\\\"|\Z)"  # within JSON within a string
    r"|\"(?:[^\"\\]|\\.|\\\Z)*(?:\"|\Z)"
    r"|'(?:[^'\\]|\\.|\\\Z)*(?:'|\Z))"
)
CONTENT_FIELDS: Final = re.compile(
    rf"(\\?['\"](?:{_CONTENT_WORDS})\\?['\"]\s*:\s*)(?:{_STRING}|\[\s*(?:{_STRING}[\s,]*)+\]?)", re.DOTALL
)
"""A JSON member or dict item that holds content, as a string or a list of strings; the name is group 1."""

VALIDATION_INPUT: Final = re.compile(r"input_value=.*?(?=, input_type=|\Z)", re.DOTALL)
"""pydantic repeats what it refused."""
