"""OpenAI's token vocabularies, loaded from this package when first needed, never downloaded.

44 MB (cl100k_base) and 72 MB (o200k_base) of memory and a fraction of a second each, so: not at start, and
once. The patterns and special tokens are those that tiktoken publishes for these names.
"""

from __future__ import annotations

import hashlib
import threading
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tiktoken import Encoding

_FOLDER: Final = Path(__file__).parent / "vocabularies"


@dataclass(frozen=True, slots=True)
class _Vocabulary:
    file: str
    sha256: str
    pattern: str
    special_tokens: dict[str, int]


_VOCABULARIES: Final = {
    "cl100k_base": _Vocabulary(
        file="9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        sha256="223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        pattern=(
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$"
            r"|\s*[\r\n]|\s+(?!\S)|\s"
        ),
        special_tokens={
            "<|endoftext|>": 100257,
            "<|fim_prefix|>": 100258,
            "<|fim_middle|>": 100259,
            "<|fim_suffix|>": 100260,
            "<|endofprompt|>": 100276,
        },
    ),
    "o200k_base": _Vocabulary(
        file="fb374d419588a4632f3f557e76b4b70aebbca790",
        sha256="446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        pattern="|".join(
            (
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
                r"\p{N}{1,3}",
                r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
                r"\s*[\r\n]+",
                r"\s+(?!\S)",
                r"\s+",
            )
        ),
        special_tokens={"<|endoftext|>": 199999, "<|endofprompt|>": 200018},
    ),
}

_SAME_TEXT: Final = {"o200k_harmony": "o200k_base"}
"""Encodings that differ in special tokens only, which never come from a client's text."""

ENCODINGS: Final = frozenset(_VOCABULARIES) | _SAME_TEXT.keys()
"""The names a model's `encoding` may have."""

_loaded: dict[str, Encoding] = {}
_loading: Final = threading.Lock()


class VocabularyDamaged(Exception):
    """A vocabulary of this package is not the published one: reinstall the package."""


def encoding_of(name: str) -> Encoding:
    """The encoding. Raises KeyError for an unknown name, VocabularyDamaged where its file was changed."""
    name = _SAME_TEXT.get(name, name)
    found = _loaded.get(name)
    if found is not None:
        return found
    with _loading:
        if name not in _loaded:
            _loaded[name] = _load(name, _VOCABULARIES[name])
        return _loaded[name]


def is_loaded(name: str) -> bool:
    """Whether `encoding_of` answers at once."""
    return _SAME_TEXT.get(name, name) in _loaded


def _load(name: str, vocabulary: _Vocabulary) -> Encoding:
    content = (_FOLDER / vocabulary.file).read_bytes()
    if hashlib.sha256(content).hexdigest() != vocabulary.sha256:
        raise VocabularyDamaged(f"{vocabulary.file} is not the published {name} vocabulary: reinstall Tollway")
    ranks = {b64decode(token): int(rank) for token, rank in map(bytes.split, content.splitlines())}
    return Encoding(name, pat_str=vocabulary.pattern, mergeable_ranks=ranks, special_tokens=vocabulary.special_tokens)
