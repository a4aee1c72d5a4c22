"""Which language a text is in, as ISO 639-1, and what that language is called in English.

The script decides where one language alone is written in it; else py3langid does, among the languages of the script,
where there are letters enough to tell by.
"""

from __future__ import annotations

import re
import threading
from bisect import bisect_right
from collections import Counter
from typing import TYPE_CHECKING, Final

from proxy.consensus.language_names import NAMES

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier  # type: ignore[import-untyped]

UNKNOWN: Final = "und"
LETTERS_MIN: Final = 20
"""Fewer letters of a script that many languages share tell nothing."""
TEXT_CHARACTERS_MAX: Final = 600
"""Of a text that are looked at, code and addresses taken out."""
CONFIDENCE_MIN: Final = 0.3
"""Less of it is no language at all: a list of names, a formula."""
SCRIPT_PERCENT_MIN: Final = 30
"""Of the letters: a script with less is quoted in a text of another one."""

_CODE: Final = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]*`", re.DOTALL)
_ADDRESS_MARKS: Final = ("://", "www.", "@")

_SCRIPTS: Final = (
    (0x41, 0x5A, ()), (0x61, 0x7A, ()), (0xC0, 0x24F, ()), (0x1E00, 0x1EFF, ()),
    (0x370, 0x3FF, ("el",)), (0x400, 0x52F, ("ru", "uk", "bg", "sr", "mk", "be", "kk", "ky", "mn", "tt")),
    (0x531, 0x58F, ("hy",)), (0x5D0, 0x5F4, ("he", "yi")),
    (0x620, 0x6FF, ("ar", "fa", "ur", "ps", "ug", "ku", "sd")), (0x900, 0x97F, ("hi", "mr", "ne", "sa")),
    (0x980, 0x9FF, ("bn", "as")), (0xA00, 0xA7F, ("pa",)), (0xA80, 0xAFF, ("gu",)), (0xB00, 0xB7F, ("or",)),
    (0xB80, 0xBFF, ("ta",)), (0xC00, 0xC7F, ("te",)), (0xC80, 0xCFF, ("kn",)), (0xD00, 0xD7F, ("ml",)),
    (0xD80, 0xDFF, ("si",)), (0xE00, 0xE7F, ("th",)), (0xE80, 0xEFF, ("lo",)), (0xF00, 0xFFF, ("bo", "dz")),
    (0x1000, 0x109F, ("my",)), (0x10A0, 0x10FF, ("ka",)), (0x1100, 0x11FF, ("ko",)), (0x1200, 0x137F, ("am", "ti")),
    (0x1780, 0x17FF, ("km",)), (0x1F00, 0x1FFF, ("el",)), (0x3041, 0x30FF, ("ja",)), (0x3400, 0x4DBF, ("zh",)),
    (0x4E00, 0x9FFF, ("zh",)), (0xAC00, 0xD7AF, ("ko",)), (0x20000, 0x2FA1F, ("zh",)),
)  # fmt: skip
"""First and last code point, and the languages written in it, the likeliest first; none: Latin, which tells nothing."""
_KANA: Final = ("ja",)
_HAN: Final = ("zh",)
_NO_LANGUAGE: Final = "zxx"
"""What the model calls a text in no language."""
_STARTS: Final = tuple([first for first, _, _ in _SCRIPTS])
_loading = threading.Lock()
_identifier: LanguageIdentifier | None = None
_tried = False


def prose(text: str) -> str:
    """The text without code and addresses."""
    words = _CODE.sub(" ", text).split()
    return " ".join([word for word in words if not any(mark in word for mark in _ADDRESS_MARKS)])


def language_of(text: str) -> str:
    """ISO 639-1 code, or "und". Code and addresses are taken out first by `prose`."""
    text = text[:TEXT_CHARACTERS_MAX]
    counts: Counter[tuple[str, ...]] = Counter()
    for character, count in Counter(text).items():
        languages = _written_in(ord(character))
        if languages is not None:
            counts[languages] += count
    letters = counts.total()
    if not letters:
        return UNKNOWN
    # Japanese is written in three scripts: a kana among ten Han characters is enough.
    kana, han = counts[_KANA], counts[_HAN]
    if kana * 10 > han and _is_share(kana + han, letters):
        return "ja"
    languages = _script_of(counts, letters)
    if len(languages) == 1:
        return languages[0]
    if languages:
        guessed, _ = _guess(text)
        return guessed if guessed in languages else languages[0]
    if letters < LETTERS_MIN:
        return UNKNOWN
    code, confidence = _guess(text)
    return code if confidence >= CONFIDENCE_MIN and code in NAMES else UNKNOWN


def language_name(code: str) -> str:
    """English name for a prompt. Of what nobody knows: "the language of the question"."""
    return NAMES.get(code, "the language of the question")


def warm_up() -> bool:
    """Load the model, half a second of work: for a thread at start. Without it the first question waits for it.

    False where it cannot be loaded: languages are then told by their script alone.
    """
    return _model() is not None


def _script_of(counts: Counter[tuple[str, ...]], letters: int) -> tuple[str, ...]:
    """Languages of the script that most letters are of, the Latin ones of formulas and names left out."""
    shares = [(count, languages) for languages, count in counts.items() if languages and _is_share(count, letters)]
    return max(shares)[1] if shares else ()


def _is_share(count: int, letters: int) -> bool:
    return count > 0 and count * 100 >= letters * SCRIPT_PERCENT_MIN


def _written_in(point: int) -> tuple[str, ...] | None:
    """Languages of the script; None for what is no letter."""
    place = bisect_right(_STARTS, point) - 1
    if place < 0:
        return None
    _, last, languages = _SCRIPTS[place]
    return languages if point <= last else None


def _guess(text: str) -> tuple[str, float]:
    """The likeliest language and how sure that is, from 0 to 1."""
    model = _model()
    if model is None:
        return UNKNOWN, 0.0
    code, confidence = model.classify(text)
    return str(code), float(confidence)


def _model() -> LanguageIdentifier | None:
    global _identifier, _tried
    if not _tried:
        with _loading:
            if not _tried:
                try:
                    _identifier = _loaded()
                except OSError:  # It is unpacked into a temporary file, for which there may be no place.
                    _identifier = None
                _tried = True
    return _identifier


def _loaded() -> LanguageIdentifier:
    """The model of the languages that have a name here; the others' share of it is let go."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    whole = LanguageIdentifier.from_model_file(MODEL_FILE)
    kept = [place for place, code in enumerate(whole.nb_classes) if code in NAMES or code == _NO_LANGUAGE]
    return LanguageIdentifier(
        whole.nb_ptc[:, kept],
        whole.nb_pc[kept],
        [whole.nb_classes[place] for place in kept],
        whole.tk_nextmove,
        whole.tk_output,
        norm_probs=True,
        tk_row=whole.tk_row,
    )
