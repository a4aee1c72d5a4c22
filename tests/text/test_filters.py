"""Whatever the text, the rules and the cuts: what goes out is the whole text redacted, and never more than that."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import pytest
import re2
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.policy.content_patterns import PATTERNS
from proxy.policy.rules import ContentRule
from proxy.text.filters import JsonText, PlainText, Refused, redacted
from proxy.text.matching import Matcher

RULES = (
    ContentRule("word", "secret[0-9]{2,4}", "redact", replacement="<w>", match_chars_max=10),
    ContentRule("mail", r"[a-z.]+@(?:[a-z]+\.)+[a-z]{2,}", "redact", replacement="<m>", match_chars_max=24),
    ContentRule("edge", r"\b(?:ab)+c?\b", "redact", replacement="<e>", match_chars_max=6),
    ContentRule("long", r"(?i)x[^y]*y", "redact", replacement="<l>", match_chars_max=8),
    ContentRule("line", r"(?m)^>.{1,3}$", "redact", replacement="<q>", match_chars_max=8),
    ContentRule("start", r"\Agreat|end\z", "redact", replacement="<s>", match_chars_max=8),
    ContentRule("wide", "é😀+", "redact", replacement="<u>", match_chars_max=4),
    ContentRule("card", PATTERNS["card_numbers"].pattern, "redact", match_chars_max=40, check="luhn"),
)
MATCHER = Matcher(RULES)
SHIPPED = Matcher(tuple(PATTERNS.values()))
WORDS = (
    "secret", "12", "345", "a", "b", "ab", "abc", ".", "@", "x.de", "bob@x.org", " ", "\n", ">", ">no", "x", "y", "X",
    "great", "end", "é", "😀", "\ufffd", "4111 1111 1111 1111", "4111", "-", "1", "0", "\\", '"', "\\u0040", "/",
)  # fmt: skip
texts = st.lists(st.sampled_from(WORDS), max_size=20).map("".join)

values = st.recursive(
    texts | st.integers(0, 10**19),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def ignore(rule: ContentRule) -> None:
    """Nobody is told."""


def cut(text: str, cuts: list[int]) -> list[str]:
    """The text in pieces."""
    at = [0, *sorted(min(c, len(text)) for c in cuts), len(text)]
    return [text[start:end] for start, end in pairwise(at)]


def expected(rules: tuple[ContentRule, ...], text: str) -> str:
    """By the definition, character by character: what any rule matches is replaced, overlapping matches by one."""
    covers = []
    for rule in rules:
        regexp, at = re2.compile(rule.pattern), 0
        while at < len(text):
            found = regexp.match(text, at, min(len(text), at + rule.match_chars_max))
            end = found.end() if found else at
            if rule.check == "luhn" and end > at:
                end = card_end(regexp, text, at, end)
            if end > at:
                covers.append((at, end, rule))
            at = max(end, at + 1)
    covers.sort(key=lambda cover: cover[0])
    out, at = "", 0
    for start, end, rule in covers:
        if start >= at:
            out += text[at:start] + rule.replacement
        at = max(at, end)
    return out + text[at:]


def card_end(regexp: re2._Regexp, text: str, at: int, end: int) -> int:
    """The longest number of whole groups that passes Luhn's check."""
    if at > 1 and text[at - 1] in ".," and text[at - 2].isdigit():
        return at
    while True:
        digits = [int(letter) for letter in text[at:end] if letter.isdigit()]
        doubled = [digit if place % 2 == 0 else sum(divmod(2 * digit, 10)) for place, digit in enumerate(digits[::-1])]
        if sum(doubled) % 10 == 0:
            return end
        shorter = re.sub(r"\d+$", "", text[at:end])
        found = regexp.match(text, at, at + len(shorter))
        if not found:
            return at
        end = found.end()


@settings(max_examples=400, deadline=None)
@given(texts, st.lists(st.integers(0, 80), max_size=12))
@example("x" + "-" * 20 + "y", [3])
@example("4111 1111 1111 1111 12/27", [5, 20])
def test_any_cut_gives_the_whole_text_redacted(text: str, cuts: list[int]) -> None:
    """And it is what the definition says, for rules with context, limits, checks and letters beyond ASCII."""
    made = PlainText(MATCHER, ignore)
    out = "".join([made.feed(piece) for piece in cut(text, cuts)])
    assert out + made.finish() == expected(RULES, text)
    assert not made.holds


@settings(max_examples=200, deadline=None)
@given(texts, st.lists(st.integers(0, 80), max_size=12))
def test_nothing_goes_out_that_could_belong_to_a_match(text: str, cuts: list[int]) -> None:
    """Whatever may still follow: what went out so far is how the redacted text begins."""
    made, fed, out = PlainText(MATCHER, ignore), "", ""
    for piece in cut(text, cuts):
        fed, out = fed + piece, out + made.feed(piece)
        for more in ("", "secret12", "34", "bob@x.org", "@x.de", "abc", "y", "\n", "d", " 1111", "😀"):
            assert expected(RULES, fed + more).startswith(out)


@settings(max_examples=200, deadline=None)
@given(values, st.randoms(use_true_random=False), st.lists(st.integers(0, 200), max_size=12))
def test_json_of_any_spelling_is_redacted_string_by_string(value: object, random: object, cuts: list[int]) -> None:
    """Escapes needed or needless, cut anywhere: the strings read as if each had been redacted on its own."""
    text = respelt(json.dumps(value, ensure_ascii=False), random)
    made = JsonText(MATCHER, ignore)
    out = "".join([made.feed(piece) for piece in cut(text, cuts)]) + made.finish()
    assert pairs(out) == read(pairs(text))


def pairs(text: str) -> object:
    """JSON read with objects as lists of their members, whatever their keys."""
    return json.loads(text, object_pairs_hook=lambda found: ["{}", *map(list, found)])


def read(value: object) -> object:
    """Every string redacted on its own, keys included; a number that is a match has become a string."""
    if isinstance(value, str):
        return expected(RULES, value)
    if isinstance(value, int):
        out = expected(RULES, str(value))
        return value if out == str(value) else out
    if isinstance(value, list):
        return [item if item == "{}" and place == 0 else read(item) for place, item in enumerate(value)]
    return value


def respelt(text: str, random: object) -> str:
    """The same JSON, some characters within its strings spelt as escapes."""
    pieces, inside, skip = [], False, 0
    for place, letter in enumerate(text):
        if skip:
            skip -= 1
            pieces.append(letter)
        elif letter == "\\":
            pieces.append(letter)
            skip = 1
        elif letter == '"':
            inside = not inside
            pieces.append(letter)
        elif inside and random.random() < 0.3:  # type: ignore[attr-defined]
            units = letter.encode("utf-16-be")
            pieces += [f"\\u{units[at]:02x}{units[at + 1]:02X}" for at in range(0, len(units), 2)]
        else:
            pieces.append(letter)
        assert place < len(text)
    return "".join(pieces)


@settings(max_examples=100, deadline=None)
@given(texts, st.lists(st.integers(0, 200), max_size=12))
def test_text_that_is_no_json_comes_out_whole(text: str, cuts: list[int]) -> None:
    """Nothing is lost or added where nothing matches, cut escapes and lone quotes included."""
    matcher = Matcher((ContentRule("none", "never-there", "redact"),))
    made = JsonText(matcher, ignore)
    assert "".join([made.feed(piece) for piece in cut(text, cuts)]) + made.finish() == text


@pytest.mark.parametrize(
    "text", ["\\", "\\u", "\\u12", "\\ud83d", "\\ud83d\\", "\\ud83d\\ude0", "\\\\ud83d\\", "\\uZZZZ", "\\'"]
)
def test_an_escape_that_never_ends_passes_as_it_is(text: str) -> None:
    """An answer may be cut off by its limit anywhere."""
    made = JsonText(MATCHER, ignore)
    assert made.feed('{"a":"') + "".join([made.feed(letter) for letter in text]) + made.finish() == '{"a":"' + text


def test_a_number_that_is_taken_out_leaves_json() -> None:
    """What replaces it between two strings is a string itself."""
    out = redacted(MATCHER, '{"card": 4111111111111111, "n": 1}', ignore, json=True)
    assert json.loads(out) == {"card": "[redacted]", "n": 1}


def test_replacement_is_escaped_within_json() -> None:
    """A replacement with quotes does not end the string it stands in."""
    matcher = Matcher((ContentRule("q", "secret", "redact", replacement='"\\\n'),))
    assert json.loads(redacted(matcher, '{"a":"my secret"}', ignore, json=True)) == {"a": 'my "\\\n'}


def test_half_a_character_waits_for_the_other() -> None:
    """A provider may cut a surrogate pair in two: the match over it is seen all the same."""
    made = PlainText(MATCHER, ignore)
    assert [made.feed("é\ud83d"), made.feed("\ude00"), made.feed("!"), made.finish()] == ["", "", "<u>!", ""]
    assert redacted(SHIPPED, "lone \ud83d here", ignore) == "lone \ud83d here"


def test_a_rule_that_refuses_is_named() -> None:
    """As soon as its match is certain; what went out before is what the others leave."""
    matcher = Matcher((ContentRule("stop", "secret", "refuse"), RULES[1]))
    made = PlainText(matcher, ignore)
    assert made.feed("to bob@x.org my sec") == "to <m> my "
    with pytest.raises(Refused) as refused:
        made.feed("ret plan")
    assert refused.value.rule.name == "stop"
    with pytest.raises(Refused):
        JsonText(matcher, ignore).feed('{"a":"b \\u0073ecret!')
    with pytest.raises(Refused):
        redacted(Matcher((RULES[0], ContentRule("stop", "t1", "refuse"))), "secret12", ignore)


def test_rules_are_told_when_they_strike() -> None:
    """Once for each stretch, in order."""
    struck: list[str] = []
    redacted(MATCHER, "secret12 bob@x.org secret34", lambda rule: struck.append(rule.name))
    assert struck == ["word", "mail", "word"]


@pytest.mark.parametrize("rule", PATTERNS.values(), ids=PATTERNS)
def test_prose_is_held_back_by_a_word_at_most(rule: ContentRule) -> None:
    """With every shipped rule: what is kept is less than the last word and a separator."""
    made, fed, out = PlainText(Matcher((rule,)), ignore), "", ""
    text = "The task is simple: risk-free and well-known, she said on 21 Nov 2026 at 10:15. Ask sky or e-mail us! "
    for letter in text * 3:
        fed, out = fed + letter, out + made.feed(letter)
        assert len(fed) - len(out) <= len(re.findall(r"[^ :,!]*[ -]?$", fed)[0])
    assert out + made.finish() == text * 3


def test_time_grows_with_the_text_alone() -> None:
    """A megabyte of what looks like the beginning of a match, and of many matches, is read within seconds."""
    for text in ("a" * 1_000_000, "bob@x.org " * 50_000, "x" * 300_000, "4111 " * 100_000):
        out = redacted(MATCHER, text, ignore)
        assert len(out) <= len(text)
