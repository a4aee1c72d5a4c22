"""What is streamed of an answer is what the whole would show, however it comes."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.consensus.fences import Fence
from proxy.consensus.normal import clean
from proxy.consensus.splitting import Splitter
from proxy.consensus.trailers import split

NONCE = "0123456789abcdef"
FENCE = Fence(NONCE)
TRAILER = '{"final_answer":"18","type":"number"}'
PIECES = st.sampled_from(
    [
        FENCE.end,
        TRAILER,
        "@@@",
        "@@",
        "@",
        "\n",
        " ",
        "**",
        "*",
        "_",
        "```",
        "```json\n",
        "{",
        "}",
        '"final_answer"',
        f"@@@BEGIN CANDIDATE A {NONCE}@@@",
        f"@@@END CANDIDATE A {NONCE}@@@",
        "@@@END ANSWER@@@\n",
        "END ANSWER",
        f" {NONCE}",
        "x" * 210,
        '{ "final',
        '\n{"a":1}\n',
        "text",
    ]
)


def streamed(text: str, cuts: list[int]) -> tuple[str, str]:
    """What was shown before the end, and all of it."""
    splitter, shown, at = Splitter(FENCE), "", 0
    while at < len(text):
        for cut in cuts:
            shown += splitter.push(text[at : at + cut])
            at += cut
    return shown, shown + splitter.end()


@given(
    st.lists(PIECES | st.text(max_size=5), max_size=12).map("".join),
    st.lists(st.integers(1, 9), min_size=1, max_size=8),
)
@settings(max_examples=600, deadline=None)
def test_streamed_text_is_the_visible_text_however_it_is_cut(text: str, cuts: list[int]) -> None:
    """The pieces shown, joined, are the whole's visible text; nothing shown is ever taken back."""
    visible, _ = split(clean(text), FENCE)
    shown, whole = streamed(text, cuts)
    assert visible.startswith(shown)
    assert whole == visible


@given(st.text(alphabet="abc .,\n#-@x0", max_size=200))
@example("@@@@")
@settings(deadline=None)
def test_text_without_fences_comes_whole(text: str) -> None:
    """But for white space around it, nothing is lost."""
    assert streamed(text, [3])[1].strip() in (text.strip(), text.strip().rstrip("@").rstrip())


def test_words_are_shown_as_they_come() -> None:
    """Nothing but white space and emphasis at the end is held back of ordinary text."""
    splitter = Splitter(FENCE)
    assert splitter.push("Hello") == "Hello"
    assert splitter.push(" world, ") == " world,"
    assert splitter.push("**bold") == " **bold"
    assert splitter.push("** a@b") == "** a@b"
    assert splitter.end() == ""


def test_echoed_fences_of_candidates_are_taken_out_and_text_goes_on() -> None:
    """A synthesiser that quotes the fences it was shown does not show them to the caller."""
    text = f"@@@BEGIN CANDIDATE A {NONCE}@@@\nParis.\n@@@END CANDIDATE A {NONCE}@@@\nIt is Paris."
    assert streamed(text, [5])[1] == "Paris.\n\nIt is Paris."


def test_code_and_json_of_an_answer_are_shown() -> None:
    """Only an object that is a trailer is withheld."""
    text = 'Use this:\n```json\n{"a": 1}\n```\nDone.\n{"final": 2}'
    assert streamed(text, [1])[1] == text


def test_end_and_trailer_are_never_shown() -> None:
    """Not a single character of them, at any time."""
    shown, whole = streamed(f"The answer is 18.\n\n**{FENCE.end}**\n```json\n{TRAILER}\n```\n", [1])
    assert shown == whole == "The answer is 18."


def test_fence_cut_off_in_the_middle_is_not_shown() -> None:
    """A stream that ends within the fence ends before it."""
    for length in range(3, len(FENCE.end)):
        assert streamed("Paris.\n" + FENCE.end[:length], [2])[1] == "Paris."


def test_hostile_streams_stay_linear() -> None:
    """Marks, spaces and openings, one character at a time: each would take minutes were it quadratic."""
    for piece in ("@", "@ ", "{", "```", " ", "\n{", "@@x", '{"final_answer" '):
        streamed(piece * 6_000, [1])
