"""Reading a member's answer: with a trailer, with a broken one, with none; never a failure."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.consensus.fences import Fence
from proxy.consensus.reading import read
from proxy.consensus.refusals import refuses
from proxy.consensus.typed import Kind

FENCE = Fence("0123456789abcdef")
TRAILER = (
    '{"final_answer": "$18.00", "type": "number", "claims": ["She sells 9 eggs.", "she sells 9 eggs"], '
    '"confidence": 0.8}'
)


def test_trailer_says_answer_claims_and_confidence() -> None:
    """The regular case; equal claims are one, and the visible text has neither fence nor trailer."""
    reading = read(f"She makes $18.\n{FENCE.end}\n{TRAILER}", FENCE)
    assert reading.text == "She makes $18."
    assert (reading.answer.kind, reading.answer.value, reading.answer.unit) == (Kind.NUMBER, "18", "usd")
    assert reading.claims == ("She sells 9 eggs.",)
    assert reading.confidence == 0.8
    assert reading.trailer and reading.usable


@pytest.mark.parametrize(
    "text",
    [
        f"It is 18.\n{FENCE.end}\n```json\n{TRAILER}\n```",
        f"It is 18.\n**{FENCE.end}** {TRAILER}",
        f"It is 18.\n{FENCE.end.lower()}\n{TRAILER}\nI hope this helps!",
        f"It is 18.\n\n```json\n{TRAILER}\n```",
        f"It is 18.\n{TRAILER}",
        f"It is 18.\n@@@END ANSWER@@@\n{TRAILER}",
        f"{FENCE.end}It is 18.\n{FENCE.end}\n{TRAILER}",
    ],
)
def test_trailer_is_found_in_whatever_shape_models_leave_it(text: str) -> None:
    """Code fences, emphasis, other case, chatter behind it, the fence forgotten, written twice, or without nonce."""
    reading = read(text, FENCE)
    assert (reading.text, reading.answer.value, reading.trailer) == ("It is 18.", "18", True)


@pytest.mark.parametrize(
    "trailer",
    [
        "",
        "{",
        '{"final_answer": "20", "type"',
        '{"final_answer": 20, "final_answer": 21, "type": "number"}',
        '{"final_answer": ' + "[" * 5000 + "]" * 5000 + "}",
        '{"final_answer": "' + "9" * 100_000 + '", "type": "number"}',
        '{"final_answer": NaN, "type": "number"}',
        "final_answer: 20",
        '{"claims": "none", "final_answer": null}',
        '{"other": 20}',
    ],
)
def test_broken_trailer_leaves_the_answer_of_the_text(trailer: str) -> None:
    """Missing, truncated, duplicate keys, too deep, huge, no JSON, empty: the text is read instead."""
    reading = read(f"So she has 18.\nA: 18\n{FENCE.end}\n{trailer}", FENCE)
    assert reading.text == "So she has 18.\nA: 18"
    assert reading.answer.value == "18"


@pytest.mark.parametrize("type_name", ["number", "NUMBER", "nonsense", None, 5, ["number"], {}])
def test_odd_type_does_not_lose_the_answer(type_name: object) -> None:
    """The type is what the answer is, whatever the member calls it."""
    written = str(type_name).replace("'", '"') if not isinstance(type_name, str | None) else None
    said = written or ("null" if type_name is None else f'"{type_name}"')
    reading = read(f'Text.\n{FENCE.end}\n{{"final_answer": 18, "type": {said}}}', FENCE)
    assert (reading.answer.kind, reading.answer.value) == (Kind.NUMBER, "18")


def test_answer_said_only_in_the_trailer_is_shown() -> None:
    """A member that leaves its text out has answered all the same."""
    assert read(f'{FENCE.end}\n{{"final_answer": "Paris", "type": "short"}}', FENCE).text == "Paris"


def test_fence_that_is_only_spoken_of_does_not_cut_the_answer() -> None:
    """A fence at the front with a long text behind it ends nothing."""
    text = f"I shall end with {FENCE.end}. " + "Here is the long answer. " * 20
    assert read(text, FENCE).text.endswith("Here is the long answer.")


def test_object_of_the_answer_is_no_trailer() -> None:
    """A question about JSON is answered in JSON: only the trailer's own keys make one."""
    text = 'Use\n{"final_answer": "x"}'
    assert read(text, FENCE).text == text


def test_structured_answer_is_the_object() -> None:
    """With a response_format the text is the answer, whatever a trailer says of it."""
    reading = read('{"b": 1.0, "a": [2]}', FENCE, structured=True)
    assert (reading.answer.kind, reading.answer.value) == (Kind.JSON, '{"a":[2],"b":1}')
    assert reading.text == '{"b": 1.0, "a": [2]}'


@pytest.mark.parametrize("text", ["", "  \n ", FENCE.end, "@@@END ANS"])
def test_nothing_is_not_usable(text: str) -> None:
    """Empty, blank, a fence alone, a piece of a fence."""
    reading = read(text, FENCE)
    assert (reading.text, reading.answer.kind, reading.usable) == ("", Kind.OPEN, False)


@pytest.mark.parametrize(
    ("said", "confidence"), [("0.5", 0.5), ("85", 0.85), ('"90%"', 0.9), ("-1", None), ("101", None)]
)
def test_confidence_is_a_share_or_nothing(said: str, confidence: float | None) -> None:
    """Percents are taken for what they are; what is out of bounds is left out."""
    assert read(f'T\n{FENCE.end}\n{{"final_answer": 1, "confidence": {said}}}', FENCE).confidence == confidence


def test_claims_are_bounded() -> None:
    """In number and in length; what is no text is left out."""
    claims = '["' + "x" * 1000 + '", 5, null, {"claim": "one"}, ' + ", ".join(f'"c{n}"' for n in range(50)) + "]"
    found = read(f'T\n{FENCE.end}\n{{"final_answer": 1, "claims": {claims}}}', FENCE, claims_max=6).claims
    assert len(found) == 6 and max(map(len, found)) == 300 and found[1] == "one"


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I cannot assist with this request.",
        "As an AI language model, I am unable to provide medical advice.",
        "I must decline to answer.",
        "Es tut mir leid, aber dabei kann ich nicht helfen.",
        "Je suis désolé, mais je ne peux pas répondre à cette question.",
        "Lo siento, pero no puedo ayudar con eso.",
        "Desculpe, mas não posso ajudar com isso.",
        "Mi dispiace, ma non posso aiutarti.",
        "Het spijt me, maar ik kan je daar niet bij helpen.",
        "Przepraszam, ale nie mogę w tym pomóc.",
        "Извините, я не могу ответить на этот вопрос.",
        "抱歉，我无法回答这个问题。",
        "申し訳ありませんが、お答えできません。",
        "죄송합니다. 답변을 제공할 수 없습니다.",
        "عذرًا، لا أستطيع المساعدة في ذلك.",
    ],
)
def test_refusals_are_known_in_many_languages(text: str) -> None:
    """A short text that opens with one declines, and does not vote."""
    assert refuses(text)
    assert not read(text, FENCE).usable


@pytest.mark.parametrize(
    "text",
    [
        "I can't determine the exact figure, but it is roughly 5.",
        "I cannot help but admire the proof.",
        "Sorry, I made an error above. The answer is 5.",
        "Ich kann das nicht genau sagen, aber es sind etwa fünf.",
        "Unfortunately, the contract is void.",
        "You cannot provide less than the minimum.",
        "The bank said: I'm sorry, but I can't help with that.",
        "I'm sorry, but I can't help with that. " + "What I can do is to explain the law. " * 30,
    ],
)
def test_answers_that_sound_like_refusals_are_answers(text: str) -> None:
    """Doubt, apology, quotations and long texts are none."""
    assert read(text, FENCE).usable


def test_refusal_that_states_an_answer_is_an_answer() -> None:
    """Who says what the answer is did not refuse."""
    assert read(f"I can't help with that, but it is 18.\n{FENCE.end}\n{TRAILER}", FENCE).usable


@given(st.text(max_size=300), st.text(max_size=300), st.booleans())
@settings(deadline=None)
def test_garbage_is_read_without_failing(before: str, behind: str, structured: bool) -> None:
    """Whatever stands around the fence."""
    reading = read(before + FENCE.end + behind, FENCE, structured=structured)
    assert FENCE.end not in reading.text


def test_hostile_sizes_are_read_in_linear_time() -> None:
    """Braces, marks, spaces and quotes by the hundred thousand: each would take minutes were it quadratic."""
    for piece in ("{", '{"', "@", "@@ ", "```\n{", " ", "[", '"', "@@@END ANSWER ", "\n", "A: ", "#### ", "\\boxed{"):
        read(piece * 60_000, FENCE)
        read(f"T\n{FENCE.end}\n" + piece * 60_000, FENCE)
