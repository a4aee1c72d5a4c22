"""Bodies are read strictly and changed without touching what is not meant."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects.json_scan import CONTAINERS_MAX, NESTING_MAX, VALUES_MAX, respliced, scan, splice
from proxy.errors import Refusal

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
LEAF = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | TEXT | st.floats(-1e6, 1e6)
VALUE = st.recursive(LEAF, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4))
DOCUMENT = st.dictionaries(TEXT, VALUE, max_size=6)


def spelt(document: Any, style: str) -> bytes:
    """The same document as different clients write it."""
    if style == "compact":
        return orjson.dumps(document)
    if style == "indented":
        return b"\r\n " + json.dumps(document, indent="\t").encode() + b" \n"
    return json.dumps(document, ensure_ascii=style == "ascii", separators=(" ,  ", " : ")).encode()


STYLES = st.sampled_from(["compact", "indented", "ascii", "spaced"])


def refused(body: bytes) -> Refusal:
    with pytest.raises(Refusal) as caught:
        scan(body)
    assert caught.value.status == 400
    return caught.value


@given(DOCUMENT, STYLES)
def test_spans_point_at_every_top_level_member(document: dict[str, Any], style: str) -> None:
    """Each span holds the member's key and value, in the body's order."""
    body = spelt(document, style)
    found = scan(body)
    assert found.document == orjson.loads(body)
    assert list(found.spans) == list(document)
    for key, (key_start, key_end, start, end) in found.spans.items():
        assert orjson.loads(body[key_start:key_end]) == key
        assert orjson.loads(body[start:end]) == found.document[key]


@given(DOCUMENT, STYLES, st.dictionaries(TEXT, st.none() | VALUE.map(orjson.dumps), max_size=3), st.data())
def test_splice_does_what_a_parser_would(
    document: dict[str, Any], style: str, extra: dict[str, bytes | None], data: st.DataObject
) -> None:
    """Replacing, inserting and removing members gives the document that editing the parsed one gives."""
    body = spelt(document, style)
    chosen = data.draw(st.lists(st.sampled_from(sorted(document)), unique=True) if document else st.just([]))
    changes = {**extra, **{key: data.draw(st.none() | VALUE.map(orjson.dumps)) for key in chosen}}
    found = scan(body)
    expected = dict(found.document)
    for key, value in changes.items():
        if value is None:
            expected.pop(key, None)
        else:
            expected[key] = orjson.loads(value)
    assert scan(splice(body, found.spans, changes)).document == expected


@given(DOCUMENT, STYLES, st.dictionaries(TEXT, VALUE.map(orjson.dumps), max_size=3), st.data())
def test_what_is_spliced_in_is_found_as_if_read_again(
    document: dict[str, Any], style: str, extra: dict[str, bytes], data: st.DataObject
) -> None:
    """Every span, the document and its normal form, whatever is put in or replaced."""
    body = spelt(document, style)
    chosen = data.draw(st.lists(st.sampled_from(sorted(document)), unique=True) if document else st.just([]))
    changes = {**extra, **{key: data.draw(VALUE.map(orjson.dumps)) for key in chosen}}
    written, found = respliced(body, scan(body).spans, changes)
    assert written == splice(body, scan(body).spans, changes)
    again = scan(written)
    assert (found.document, found.spans, found.normal) == (again.document, again.spans, again.normal)
    assert list(found.spans) == list(again.spans)


def test_splice_leaves_every_other_byte_alone() -> None:
    """White space, escapes, number spellings and the order of members survive."""
    body = b'{ "x" : 1.50e1,\n"model":"a" , "text":"\\u00e9\\/" }'
    changed = splice(body, scan(body).spans, {"model": b'"b"', "n": b"2"})
    assert changed == b'{"n":2, "x" : 1.50e1,\n"model":"b" , "text":"\\u00e9\\/" }'


@pytest.mark.parametrize("gone", [["a"], ["b"], ["c"], ["a", "b"], ["b", "c"], ["a", "c"], ["a", "b", "c"]])
@pytest.mark.parametrize("added", [{}, {"d": b"4"}])
def test_splice_removes_members_with_their_comma(gone: list[str], added: dict[str, bytes]) -> None:
    """Whichever members are removed, what is left is valid JSON."""
    body = b'{ "a" : 1 , "b":[2], "c":"3"\n}'
    changed = splice(body, scan(body).spans, {**dict.fromkeys(gone), **added})
    left = {key: value for key, value in {"a": 1, "b": [2], "c": "3"}.items() if key not in gone}
    assert orjson.loads(changed) == left | {key: orjson.loads(value) for key, value in added.items()}


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"b"}',
        b'{"model":"a","\\u006dodel":"b"}',
        b'{"\\u006d\\u006fdel":"a","model":"a"}',
        b'{"a":{"b":[{"c":1,"c":1}]}}',
        b'{"a":[{"x":1},{"x":1},{"":1,"":2}]}',
        b'{"a":"\\":", "b":{"\\"":1,"\\u0022":2}}',
    ],
)
def test_a_key_given_twice_is_refused_at_any_level(body: bytes) -> None:
    """However the second one is spelt."""
    assert refused(body).code == "invalid_json"


@given(DOCUMENT.filter(bool), STYLES, st.data())
def test_a_repeated_member_never_passes(document: dict[str, Any], style: str, data: st.DataObject) -> None:
    """Any member repeated anywhere in the top level is found."""
    body = spelt(document, style)
    key = data.draw(st.sampled_from(sorted(document)))
    escaped = '"' + "".join(f"\\u{unit:04x}" for unit in memoryview(key.encode("utf-16-le")).cast("H")) + '"'
    at = body.index(b"{") + 1
    assert refused(body[:at] + escaped.encode() + b":0," + body[at:]).code == "invalid_json"


def test_colons_and_braces_in_text_are_text() -> None:
    """Text that looks like structure changes nothing."""
    body = json.dumps({"a": '{"a":1,"a":2}', 'b"': "\\", "c\\": ':"{[', "d": {"a": "}}]"}}).encode()
    assert list(scan(body).spans) == ["a", 'b"', "c\\", "d"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'a':1}",
        b'{"a":1}{"b":2}',
        b'{"a":1}\x00',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":01}',
        b'{"a":1,}',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\udc00\\ud800"}',
        b'{"\\ud800":1}',
        b'{"a":"\n"}',
        b'{"a":18446744073709551616}',
        b'{"a":[-9223372036854775809]}',
        b'{"a":' + b"9" * 5000 + b"}",
        '{"a":1}'.encode("utf-16"),
    ],
)
def test_what_parsers_disagree_about_is_refused(body: bytes) -> None:
    """Invalid JSON or UTF-8, NaN, lone surrogates, a byte order mark, integers beyond 64 bits."""
    assert refused(body).code == "invalid_json"


@pytest.mark.parametrize(
    "number", ["18446744073709551615", "-9223372036854775808", "0.12345678901234567890123", "1234567890123456789012e3"]
)
def test_numbers_that_fit_pass_untouched(number: str) -> None:
    """Long fractions are floats, not integers."""
    body = b'{"a": ' + number.encode() + b"}"
    assert splice(body, scan(body).spans, {}) == body


@pytest.mark.parametrize("body", [b"[]", b'"a"', b"1", b"null", b"true"])
def test_the_top_level_is_an_object(body: bytes) -> None:
    """Any other JSON is a clear 400."""
    assert refused(body).code == "invalid_request"


@pytest.mark.parametrize("brackets", ["[]", "{}"])
@pytest.mark.parametrize("space", [b"", b" "])
def test_nesting_is_bounded(brackets: str, space: bytes) -> None:
    """`NESTING_MAX` levels pass, one more does not, whether the body is in normal form or not."""

    def nested(levels: int) -> bytes:
        opening = b"[" if brackets == "[]" else b'{"k":'
        inner = opening * (levels - 1) + b"0" + brackets[1].encode() * (levels - 1)
        return b'{"a":' + space + inner + b"}"

    assert list(scan(nested(NESTING_MAX)).spans) == ["a"]
    assert "nested" in refused(nested(NESTING_MAX + 1)).message
    assert refused(nested(5000)).code == "invalid_json"


def test_deep_members_end_where_they_end() -> None:
    """Containers deeper than the unrolled pattern, with text between their brackets."""
    deep: Any = "]"
    for level in range(60):
        deep = [level, '"[{', {"k": deep, "}": [[]]}, "\\"]
    body = json.dumps({"a": deep, "b": 1}).encode()
    start, end = scan(body).spans["a"][2:]
    assert json.loads(body[start:end]) == deep


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":' + b" " * 1_000_000 + b"1}",
        b'{"a":[' + b",".join([b"1234567"] * 1_000_000) + b"]}",
        b'{"a": [' + b" , ".join([b"1"] * 200_000) + b"]}",
        b'{"a": "' + b'\\"x' * 500_000 + b'"}',
    ],
    ids=["spaces", "integers", "spaced integers", "escapes"],
)
def test_large_bodies_are_read(body: bytes) -> None:
    """A million spaces or numbers are neither refused nor a trap."""
    assert list(scan(body).spans) == ["a"]


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":[' + b",".join([b"[]"] * (CONTAINERS_MAX + 1)) + b"]}",
        b'{"a":[' + b",".join([b"1"] * (VALUES_MAX + 2)) + b"]}",
    ],
    ids=["containers", "values"],
)
def test_a_body_cannot_grow_without_bound_in_memory(body: bytes) -> None:
    """Too many containers or values are refused before they are built."""
    assert "more than" in refused(body).message


def test_keys_are_found_at_any_level_however_spelt() -> None:
    """And a text that only looks like the key is none."""
    assert scan(b'{"a":[{"cache\\u005fcontrol" : {}}]}').has_key(b"cache_control")
    assert not scan(b'{"a":["cache_control", "\\"cache_control\\":"]}').has_key(b"cache_control")


def test_too_many_members_are_refused() -> None:
    """Each is looked at one by one; a body of a million would hold everybody up."""
    members = b",".join(b'"K%d":1' % number for number in range(1001))
    with pytest.raises(Refusal) as refused:
        scan(b"{" + members + b"}")
    assert refused.value.code == "invalid_json"
    assert len(scan(b"{" + members.rpartition(b",")[0] + b"}").document) == 1000
