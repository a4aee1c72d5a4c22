"""Which rules can be used, and what the shipped ones take for a match."""

from __future__ import annotations

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.policy.content_patterns import PATTERNS
from proxy.policy.rules import ContentRule
from proxy.text.filters import redacted
from proxy.text.matching import Matcher, passes_luhn, problem
from proxy.text.prefixes import shape

HEX = "0123456789abcdef" * 8
LETTERS = "aB3dE5gH1jK7mN9pQ2sT4vW6xY8z" * 8
PEM = "-----BEGIN RSA PRIVATE KEY-----\n" + "\n".join([LETTERS[:64]] * 40) + "\nabc=\n-----END RSA PRIVATE KEY-----"
KEYS = [
    "sk-" + LETTERS[:48],
    "sk-" + HEX[:32],
    "sk-proj-" + LETTERS[:40] + "_T3BlbkFJ-" + LETTERS[:40],
    "sk-svcacct-" + LETTERS[:60],
    "sk-ant-api03-" + LETTERS[:93] + "AA",
    "sk-or-v1-" + HEX[:64],
    "lld_" + HEX[:32],
    "gsk_" + LETTERS[:52],
    "xai-" + LETTERS[:80],
    "ghp_" + LETTERS[:36],
    "github_pat_" + LETTERS[:22] + "_" + LETTERS[:59],
    "glpat-" + LETTERS[:20],
    "AKIAIOSFODNN7EXAMPLE"[:16] + "ABCD",
    "AIza" + LETTERS[:35],
    "xoxb-123456789012-1234567890123-" + LETTERS[:24],
    "sk_live_" + LETTERS[:24],
    "rk_live_" + LETTERS[:24],
    "SG." + LETTERS[:22] + "." + LETTERS[:43],
    "hf_" + "abcdefghijklmnopqrstuvwxyzABCDEFGH",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    PEM,
    PEM.replace("\n", "\\n"),
    "-----BEGIN OPENSSH PRIVATE KEY-----\n" + LETTERS[:70],
    'aws_secret_access_key = "' + LETTERS[:40],
]
NO_KEYS = [
    "sk-SK", "the task-management-of-things is risk-free", "sk-proj-name", "sk-learn", "ghp_ is a prefix", "AKIA",
    "0123456789abcdef0123456789abcdef", "550e8400-e29b-41d4-a716-446655440000", "eyJ is how a token begins",
    "-----BEGIN CERTIFICATE-----", "-----BEGIN PUBLIC KEY-----", "xoxo-love-and-kisses-from-all-of-us",
    "sk_test_" + LETTERS[:24], "desk-proj-and-a-very-long-name-of-a-class", "https://example.org/AIzaX",
]  # fmt: skip
CARDS = [
    "4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111", "5500 0000 0000 0004", "378282246310005",
    "3782 822463 10005", "6011000990139424", "2223003122003222", "4222222222222", "30569309025904",
    "4111\u00a01111\u00a01111\u00a01111",
]  # fmt: skip
NO_CARDS = [
    "4111111111111112", "1234567890123456", "1700000000000", "41111111111111111111", "3.4111111111111111", "12345",
    "978-3-16-148410-0", "id4111111111111111", "+49 170 1234567", "2026-11-21 10:15:00", "4111_1111_1111_1111",
]  # fmt: skip
MAILS = [
    "bob@example.org",
    "first.last+tag@mail.example.co.uk",
    "o'neil@example.ie",
    "a@b.io",
    "x_y%z@sub-domain.example",
]
NO_MAILS = ["user@localhost", "@mention", "a @ b.c", "pkg@1.2.3", "foo@", "@example.org", "https://example.org/a"]


def found(name: str, text: str) -> str:
    return redacted(Matcher((PATTERNS[name],)), text, lambda _: None)


@pytest.mark.parametrize(
    ("name", "text"),
    [("api_keys", one) for one in KEYS]
    + [("card_numbers", one) for one in CARDS]
    + [("mail_addresses", one) for one in MAILS],
)
def test_what_is_a_match(name: str, text: str) -> None:
    """Alone, in a sentence, in quotes, as a value: all of it goes."""
    gone = PATTERNS[name].replacement
    assert found(name, text) == gone
    for before, after in (("It is ", ", see."), ('"', '"'), ("KEY=", "\n"), ("(", ")"), ("né:", " ok")):
        assert found(name, before + text + after) == before + gone + after


@pytest.mark.parametrize(
    ("name", "text"),
    [("api_keys", one) for one in NO_KEYS]
    + [("card_numbers", one) for one in NO_CARDS]
    + [("mail_addresses", one) for one in NO_MAILS],
)
def test_what_is_none(name: str, text: str) -> None:
    """Prose, identifiers, dates, versions, identifiers of other things."""
    assert found(name, text) == text
    assert found(name, f"It is {text} there.") == f"It is {text} there."


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("4111 1111 1111 1111 12/27", "[card number removed] 12/27"),
        ("1234 4111 1111 1111 1111", "1234 [card number removed]"),
        ("4111 1111 1111 1111 5500 0000 0000 0004", "[card number removed] [card number removed]"),
        ("tel 5550 4111 1111 1111 1111 cvc 123", "tel 5550 [card number removed] cvc 123"),
    ],
)
def test_a_card_number_is_found_among_other_digits(text: str, left: str) -> None:
    """An expiry date, another number or another card beside it does not hide it."""
    assert found("card_numbers", text) == left


def test_a_key_that_goes_on_is_taken_whole() -> None:
    """Longer tokens than issued today leave no rest."""
    assert found("api_keys", "sk-proj-" + LETTERS[:200] + " ok") == "[key removed] ok"


def test_check_sum_of_card_numbers() -> None:
    """By the standard's own example, and not of an empty text."""
    assert passes_luhn("1789372997 4")
    assert not passes_luhn("17893729975")
    assert not passes_luhn("")


@pytest.mark.parametrize("rule", PATTERNS.values(), ids=PATTERNS)
def test_shipped_rules_can_be_used(rule: ContentRule) -> None:
    """No problem with any."""
    assert problem(rule) is None


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(", "RE2 does not accept"),
        (r"(a)\1", "RE2 does not accept"),
        (r"a(?=b)", "RE2 does not accept"),
        ("a*", "empty text"),
        (r"\bx?", "empty text"),
        ("a|", "empty text"),
        (r"\C+", "stands for a byte"),
        ("a{200}", "can never match"),
        ("(" * 60 + "a" + ")" * 60, "inside one another"),
    ],
)
def test_a_rule_that_cannot_be_used_says_why(pattern: str, said: str) -> None:
    """In words for who wrote it."""
    assert said in str(problem(ContentRule("r", pattern, "redact")))


@pytest.mark.parametrize(
    ("pattern", "match", "others"),
    [
        (r"a(?i)b|c", "aB", ["A"]),
        (r"(?i:a)b", "Ab", ["aB"]),
        (r"\Qa.b\E+c", "a.bbc", ["axb"]),
        (r"[]a-c]+[^]x]z", "]b!z", ["x"]),
        (r"[[:alpha:]\d\x{e9}]{2,3}?\pL\.", "a9éx.", ["-"]),
        (r"(?P<n>x)(?<m>y)(z)", "xyz", ["yz"]),
        (r"(?s)a.b(?-s:.)c", "a\nbxc", ["a\nb\n"]),
        (r"(?mU)^a+?$", "aa", ["b"]),
        (r"(?:ab|cd(?:ef)*){2}\x41\101", "abcdefefAA", ["abx"]),
        (r"x{0}y\{1}", "y{1}", ["x"]),
        (r"{a}", "{a}", ["a"]),
    ],
)
def test_beginnings_of_a_match_are_known(pattern: str, match: str, others: list[str]) -> None:
    """For every construct of RE2's syntax: each beginning of a match is one, other texts are not."""
    found = shape(pattern)
    assert re2.fullmatch(found.same, match)
    for end in range(len(match) + 1):
        assert re2.fullmatch(found.beginnings, match[:end]), match[:end]
    for other in others:
        assert not re2.fullmatch(found.beginnings, other)


atoms = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\d", r"\b", "1", r"\w", "^", "$"])
patterns = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=4).map("".join)
        | st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})")
        | st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{2,}", "+?"])).map(
            lambda p: f"(?:{p[0]}){p[1]}"
        )
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(patterns, st.text("ab1 ", max_size=8))
def test_beginnings_of_any_pattern(pattern: str, text: str) -> None:
    """Whatever the pattern: the same matches, and every beginning of each is recognised."""
    found = shape(pattern)
    match = re2.search(pattern, text)
    same = re2.search(found.same, text)
    assert (match is None) == (same is None)
    if match is None:
        return
    assert match.span() == same.span()
    start, end = match.span()
    assert end - start >= found.chars_min
    for stop in range(start, end + 1):
        assert re2.compile(f"(?:{found.beginnings})\\z").search(text[:stop], start).start() == start
