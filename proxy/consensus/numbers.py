"""Numbers as people and models write them, read exactly.

Of separators the usual reading is taken: `1,234` has thousands, `1,5` a decimal comma, `1.234` a decimal point;
where both stand the last is the decimal one.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

CHARS_MAX: Final = 200
SPELLED_CHARS_MAX: Final = 170
"""Of a number in canonical form; what is longer is none."""
EXPONENT_MAX: Final = 300

_SUPERSCRIPTS: Final = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_SUPERSCRIPT_RUN: Final = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
_VULGAR: Final = re.compile(r"(\d)\s*(?=[¼½¾⅐-⅞])")
_SIGNS: Final = str.maketrans(
    {"−": "-", "‒": "-", "–": "-", "⁄": "/", "×": "*", "·": "*", "⋅": "*", "٫": ".", "٬": ","}
    | {"’": "'", "≈": "~", "∼": "~", "≃": "~"}
)
_LATEX: Final = (
    (re.compile(r"\\d?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r" \1/\2"),
    (re.compile(r"\\(?:boxed|text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}"), r" \1"),
    (re.compile(r"\\(?:times|cdot)\b"), "*"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\([%$])"), r"\1"),
    (re.compile(r"\\[(),;!\[\] ]"), ""),
    (re.compile(r"[*_`]{2,}|`|\$\$"), ""),
    (re.compile(r"^\$(.*[^$])\$$"), r"\1"),
)
_LEAD: Final = re.compile(
    r"^(?:(?:approximately|approx\.?|about|around|roughly|exactly|circa|ca\.|almost|nearly|[~=:*_]|[a-z]\s*[=~](?!=))\s*)+",
    re.IGNORECASE,
)
_PLAIN: Final = r"(?:\d+(?:[.,'_]\d+|[ ]\d{3}(?!\d))*|[.,]\d+)"
_NUMBER: Final = re.compile(
    rf"""(?P<sign>[+-]?)\s*(?P<before>us\$|[$€£¥₹]|usd|eur|gbp|jpy|chf|inr)?\s*(?P<sign2>[+-]?)
    (?:(?P<power>10\^\(?\{{?(?P<only>[+-]?\d{{1,3}})\}}?\)?)
    |(?:(?P<whole>\d{{1,18}})\s+)?(?P<over>\d{{1,120}})\s*/\s*(?P<under>\d{{1,120}})(?![/\d.,-])
    |(?P<plain>{_PLAIN})(?:e(?P<e>[+-]?\d{{1,3}})(?![\w.])|\s*[*x]\s*10\^\(?\{{?(?P<ten>[+-]?\d{{1,3}})\}}?\)?)?)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_MAGNITUDES: Final = {
    "thousand": 3, "k": 3, "million": 6, "millions": 6, "mn": 6, "mio": 6, "billion": 9, "billions": 9, "bn": 9,
    "trillion": 12, "trillions": 12, "tn": 12,
}  # fmt: skip
_AFTER: Final = re.compile(r"\s*-?\s*(%|°\s?[cf]\b|[€$£¥₹¢]|[^\W\d_]+(?:\^[23])?)", re.IGNORECASE)
_PER: Final = re.compile(r"\s?/\s?([^\W\d_]{1,20}(?:\^-?\d)?)")
_REST: Final = re.compile(r"[^\W\d_]|[\s().,;:!?*/'\"-]")
_IN_TEXT: Final = re.compile(
    r"(?<![\w.,])\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\w]|[.,]\d)|(?<![\w.,])\d+\.\d+(?![\w]|[.,]\d)"
)


def _units() -> dict[str, tuple[str, str, Fraction]]:
    table: dict[str, tuple[str, str, Fraction]] = {}
    for line in _UNITS.strip().splitlines():
        dimension, *entries = line.split("|")
        for entry in entries:
            scale, symbol, *names = entry.split()
            for name in (symbol, *names):
                table[name.replace("_", " ")] = (symbol, dimension.strip(), Fraction(scale))
    return table


_UNITS: Final = """
|1/100 % percent percents pct
usd|1 usd $ us$ dollar dollars buck bucks|1/100 cent cents ¢
eur|1 eur € euro euros
gbp|1 gbp £
jpy|1 jpy ¥ yen
inr|1 inr ₹ rupee rupees
chf|1 chf franken
metre|1/1000 mm millimeter millimeters millimetre millimetres|1/100 cm centimeter centimeters centimetre centimetres\
|1 m meter meters metre metres|1000 km kilometer kilometers kilometre kilometres|254/10000 inch inches\
|3048/10000 ft foot feet|9144/10000 yd yard yards|1609344/1000 mi mile miles
gram|1/1000 mg milligram milligrams|1 g gram grams|1000 kg kilogram kilograms kilo kilos\
|45359237/100000 lb lbs|45359237/1600000 oz ounce ounces
second|1/1000 ms millisecond milliseconds|1 s sec secs second seconds|60 min mins minute minutes\
|3600 h hr hrs hour hours|86400 day days|604800 week weeks
month|1 month months|12 year years yr yrs
litre|1/1000 ml milliliter milliliters millilitre millilitres|1 l liter liters litre litres
celsius|1 °c
fahrenheit|1 °f
"""
UNITS: Final = _units()
"""Name -> symbol, dimension, scale. Months and years have no fixed length in days; pounds are two things: a noun."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number with what it counts, as written."""

    value: Fraction
    unit: str = ""
    """Symbol of a known unit; empty otherwise."""

    def __str__(self) -> str:
        """Canonical, without unit."""
        return spelled(self.value)


def spelled(value: Fraction) -> str:
    """18, -0.5, 1/3: decimal where that is finite, else a fraction in lowest terms."""
    if value.denominator == 1:
        return str(value.numerator)
    rest, twos, fives = value.denominator, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    if rest != 1:
        return f"{value.numerator}/{value.denominator}"
    places = max(twos, fives)
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"


def scaled(value: Fraction, unit: str) -> tuple[str, Fraction]:
    """Dimension and value in its first unit, in which `5 km` and `5000 m` are one."""
    _, dimension, scale = UNITS.get(unit, (unit, unit, Fraction(1)))
    return dimension, value * scale


def number(text: str, *, nouns_max: int = 0) -> Number | None:
    """The text as one number, perhaps with a currency, a known unit, and up to `nouns_max` other words behind it. None
    where it is anything else: a date, a range, a sentence."""
    if len(text) > CHARS_MAX or not any(letter.isdigit() or letter in "½¼¾⅓⅔⅛" for letter in text):
        return None
    plain = _normal(text)
    found = _NUMBER.match(plain)
    value = _value(found) if found else None
    if found is None or value is None:
        return None
    unit = UNITS[found["before"].lower()][0] if found["before"] else ""
    at = found.end()
    if (after := _AFTER.match(plain, at)) and (power := _MAGNITUDES.get(after[1].lower())):
        value, at = value * 10**power, after.end()
        after = _AFTER.match(plain, at)
    if after and (known := UNITS.get(after[1].replace(" ", "").lower())):
        if unit and known[0] != unit:
            return None
        unit, at = known[0], after.end()
        if per := _PER.match(plain, at):
            unit, at = f"{unit}/{per[1].lower()}", per.end()
    rest = plain[at:].strip(" .,;:!*)")
    if rest and (len(rest.split()) > nouns_max or not rest[0].isalpha() or any(not _REST.match(each) for each in rest)):
        return None
    if rest and plain[at : at + 1] not in " -,;:.)":
        return None
    return Number(value, unit) if len(spelled(value)) <= SPELLED_CHARS_MAX else None


def plain_numbers(text: str) -> str:
    """The text with thousands separators taken out and trailing zeros of decimals dropped."""

    def plain(found: re.Match[str]) -> str:
        whole, _, places = found[0].replace(",", "").partition(".")
        places = places.rstrip("0")
        return f"{whole}.{places}" if places else whole

    return _IN_TEXT.sub(plain, text)


def _normal(text: str) -> str:
    text = _VULGAR.sub(r"\1 ", text)
    text = _SUPERSCRIPT_RUN.sub(lambda run: "^" + run[0].translate(_SUPERSCRIPTS), text)
    text = unicodedata.normalize("NFKC", text.translate(_SIGNS)).translate(_SIGNS)
    text = "".join(str(unicodedata.decimal(letter)) if letter.isdecimal() else letter for letter in text)
    for pattern, replacement in _LATEX:
        text = pattern.sub(replacement, text)
    text = " ".join(text.split())
    return _LEAD.sub("", text).strip(" .*_\"'")[:CHARS_MAX] if not text.startswith(".") else text


def _value(found: re.Match[str]) -> Fraction | None:
    """None for what is too large, divided by zero, or oddly separated."""
    if found["power"]:
        value = _power(Fraction(1), found["only"])
    elif found["over"]:
        under = int(found["under"])
        value = int(found["whole"] or 0) + Fraction(int(found["over"]), under) if under else None
    else:
        value = _decimal(found["plain"])
        value = None if value is None else _power(value, found["e"] or found["ten"] or "0")
    return -value if value is not None and "-" in (found["sign"], found["sign2"]) else value


def _power(value: Fraction, exponent: str) -> Fraction | None:
    ten = int(exponent)
    return value * Fraction(10) ** ten if abs(ten) <= EXPONENT_MAX else None


def _decimal(written: str) -> Fraction | None:
    digits = written.translate({ord(each): None for each in "'_ "})
    if len(digits) > SPELLED_CHARS_MAX:
        return None
    commas, points = digits.count(","), digits.count(".")
    decimal = ""
    if commas and points:
        decimal = max(",.", key=digits.rfind)
    elif commas == 1 and not _thousands(digits, ","):
        decimal = ","
    elif points == 1:
        decimal = "."
    whole, _, places = digits.partition(decimal) if decimal and digits.count(decimal) == 1 else (digits, "", "")
    for separator in ",.":
        if separator in places or (separator in whole and not _thousands(whole, separator)):
            return None
        whole = whole.replace(separator, "")
    return Fraction(int(whole + places or "0"), 10 ** len(places))


def _thousands(digits: str, separator: str) -> bool:
    """Groups of three; of two before the last, as in India."""
    first, *groups = digits.split(separator)
    if not 1 <= len(first) <= 3 or first == "0" or len(groups[-1]) != 3:
        return False
    return all(len(group) == 3 for group in groups) or (
        len(first) <= 2 and all(len(group) == 2 for group in groups[:-1])
    )
