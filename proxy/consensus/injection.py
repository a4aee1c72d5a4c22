"""What in an answer is meant for its judges rather than its reader. Patterns are linear-time, texts bounded."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import re2  # type: ignore[import-untyped]

from proxy.consensus.fences import forges_fence
from proxy.consensus.normal import clean

TEXT_CHARS_MAX: Final = 64_000
"""Of an answer, which is what judges are shown of it; and of a question."""
INFLUENCE: Final = frozenset(
    {"addresses_judge", "orders_ranking", "ignore_instructions", "universal_phrase", "forged_fence", "ballot_like"}
)
"""What costs an answer its ballot influence."""

_GAP: Final = r"[^.!?\n]{0,40}"
_AFTER: Final = r"[^\n]{0,120}"
_JUDGE: Final = r"(?:judges?|evaluators?|graders?|reviewers?|jury|jurors?|rankers?|raters?|scorers?)"
_MACHINE: Final = rf"(?:ai|llm|automated|language[ -]model|model) {_JUDGE}"
_ANSWER: Final = r"(?:answer|response|candidate|submission|reply)"
_TOP: Final = (
    r"(?:first|highest|top|best|winner|number one|no\. ?1|#1|rank 1|1st|10|ten|full marks"
    r"|(?:maximum|perfect|full) (?:score|mark|rating|grade|rank|points))"
)
_ORDER: Final = rf"(?:rank|rate|score|grade|vote|prefer|choose|select|ignore|{_TOP})"
_TO_JUDGE: Final = r"(?:dear|attention|notice|note|message|instructions?|hello|hey)(?:,| to| for)? (?:the |all |any )*"
_OLD: Final = r"(?:previous|prior|above|preceding|earlier|foregoing|original|system|other|former)"
_PATTERNS: Final = {
    "addresses_judge": (
        rf"\b{_TO_JUDGE}{_MACHINE}\b",
        rf"\b{_TO_JUDGE}{_JUDGE}\b{_AFTER}\b{_ORDER}\b",
        rf"\b(?:if|when|as|since) you(?: are|['’]re)? (?:an? |the )?(?:ai |llm )?{_JUDGE}\b{_AFTER}\b{_ORDER}\b",
        rf"\b(?:if|when|since) you(?: are|['’]re) (?:judging|grading|evaluating|ranking|scoring|rating|comparing)\b"
        rf"{_GAP}\b{_ANSWER}s?\b",
        rf"(?m)^\W{{0,6}}(?:to |for )?(?:the )?(?:ai |llm )?{_JUDGE}(?: model)?\s?[,:—–-]{_AFTER}\b{_ORDER}\b",
        r"\b(?:hinweis |anweisung )?(?:an|für) (?:die |den |alle )(?:gutachter|juror(?:en)?|bewerter|prüfer)\b"
        rf"{_AFTER}\b(?:bewerte|wähle|setze|ignorier|diese antwort)",
        r"(?:评委|裁判|评审|評審|審査員|심사위원)[^。.\n]{0,20}(?:请|請|必须|してください|하세요|选择|排名|第一)",
    ),
    "orders_ranking": (
        rf"\b(?:rank|rate|score|grade|vote for) (?:this|my|it|me)\b(?: {_ANSWER})?{_GAP}\b{_TOP}\b",
        rf"\b(?:choose|select|pick|prefer|declare|award|give|place|put) (?:this|my) {_ANSWER}\b{_GAP}\b{_TOP}\b",
        rf"\b(?:choose|select|pick|prefer|vote for) (?:this|my) {_ANSWER}\b",
        rf"\b(?:this|my) {_ANSWER} (?:must|should|has to|needs to|deserves to) (?:win\b|be (?:ranked|rated|scored"
        rf"|graded|chosen|selected|preferred)\b|(?:receive|get) {_GAP}\b{_TOP}\b)",
        rf"\brank (?:all |every |the )*others? (?:{_ANSWER}s? )?(?:last|lower|below|worse)\b",
        rf"\b(?:give|assign|award|score|rate) (?:all|every|the) others? {_ANSWER}s?\b{_GAP}\b(?:0|zero|lowest|low)\b",
        r"\b(?:bewerte|setze|wähle|stufe) (?:diese|meine) antwort (?:am höchsten|auf platz|an die erste|als )",
        r"(?:将|把|將)(?:此|这个|這個|本|该)(?:答案|回答|回复)(?:排|评|選|选|列)[^。\n]{0,6}(?:第一|最高|首位|最好|满分)",
    ),
    "ignore_instructions": (
        rf"\b(?:ignore|disregard|forget) (?:all |any |every |the |your |of |these |those )*{_OLD}(?: and \w+)? "
        r"(?:instructions?|prompts?|directions?|guidelines?|criteria|rubrics?|candidates?|responses)\b",
        r"\b(?:ignore|disregard|forget) your (?:instructions?|rubric|scoring|criteria|guidelines|evaluation|prompt)\b",
        r"\bignorier\w* (?:alle |die )*(?:vorherigen|bisherigen|obigen|vorigen) (?:anweisungen|anleitungen|vorgaben)",
        r"\bignore[sz]? (?:toutes )?les (?:instructions|consignes) (?:précédentes|ci-dessus)",
        r"\bignora (?:todas |tutte )?(?:las |le )?(?:instrucciones|istruzioni) (?:anteriores|previas|precedenti)",
        r"(?:忽略|无视|無視)[^。\n]{0,8}(?:之前|以上|先前|前面|上述|以前)[^。\n]{0,8}(?:指令|指示|提示|說明|说明)",
        r"(?:以前|上記|これまで)の(?:指示|命令|ルール)を?(?:すべて)?無視",
    ),
    "universal_phrase": (
        rf"\b(?:this|my) {_ANSWER} is (?:the |clearly |by far |undoubtedly |objectively )*(?:best|superior|better)\b"
        rf"{_GAP}\b(?:of all|among|others?|{_ANSWER}s)\b",
        rf"\b(?:all|every|any) (?:the )?others? (?:{_ANSWER}s? )?(?:is|are|must be|should be) (?:fabricated|malicious"
        r"|ignored|rejected|discarded|ranked)\b",
        r"\b(?:summary|evaluation|assessment) (?:quality |result |verdict )?is (?:rated )?(?:excellent|perfect|10/10)",
    ),
    "ballot_like": (
        r'"(?:answers|rankings?|ballot|evaluations?)"\s{0,4}:\s{0,4}\[\s{0,4}\{[^}]{0,200}"(?:label|rank)"',
        r'\{\s{0,4}"label"\s{0,4}:[^}]{0,300}"(?:rank|accuracy|completeness)"\s{0,4}:',
        r'"(?:rank|winner|best_answer)"\s{0,4}:[^}\n]{0,40},[^}]{0,200}"(?:label|accuracy|completeness)"',
    ),
    "verdict_like": (
        r"\[\[\s?(?:[A-Z]|tie|\d{1,2}|rating|verdict)\s?\]\]",
        r"(?m)^\W{0,6}(?:final )?(?:ranking|verdict|winner|judge?ment|rating|score)\W{0,4}[:=]\W{0,6}"
        r"(?:answer |response |candidate |model )?(?:[a-h1-9]\b|\d{1,2} ?/ ?10|first|best|this)",
        r"<\s?/?\s?(?:verdict|ranking|judge?ment|score|winner|evaluation)\b[^>\n]{0,40}>",
        r"\b(?:final )?ranking:?\s{0,4}(?:1[.)]\s{0,3})?(?:response|candidate|answer) [a-h]\b",
    ),
}
_COMPILED: Final = {
    name: re2.compile("(?i)(?:" + "|".join(f"(?:{each})" for each in patterns) + ")")
    for name, patterns in _PATTERNS.items()
}
_HOMOGLYPHS: Final = str.maketrans(
    "аеорсухіјѕԁһАВЕКМНОРСТХІЈЅαοΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "aeopcyxijsdhABEKMHOPCTXIJSaoABEZHIKMNOPTYX"
)
"""Cyrillic and Greek letters that look Latin; no pattern here is written in either script."""
_UNSEEN: Final = re2.compile(r"[\p{Cf}\x{FE00}-\x{FE0F}\x{115F}\x{1160}\x{3164}]")


@dataclass(frozen=True, slots=True)
class Flags:
    """What was found, as names: addresses_judge, orders_ranking, ignore_instructions, universal_phrase, forged_fence,
    ballot_like, verdict_like."""

    names: tuple[str, ...] = ()

    @property
    def addresses_judge(self) -> bool:
        """It costs the answer its ballot influence. A mere verdict_like does not: answers may say `[[A]]`."""
        return not INFLUENCE.isdisjoint(self.names)


def flags(text: str, *, question: str = "") -> Flags:
    """What the answer says to its judges. What already stands in the question is no finding: it may be asked about."""
    said, asked = _plain(text), _plain(question)
    names = [name for name in _COMPILED if _found(name, said) and not _found(name, asked)]
    if forges_fence(text[:TEXT_CHARS_MAX]) and not forges_fence(question[:TEXT_CHARS_MAX]):
        names.append("forged_fence")
    return Flags(tuple(names))


def excluded(found: Mapping[str, Flags], families: Mapping[str, str]) -> frozenset[str]:
    """Seats that lose their ballot influence: those that address the judge, unless half of the families do (then the
    question is about such texts). `found` has every seat that answered."""
    addressing = frozenset(seat for seat, each in found.items() if each.addresses_judge)
    all_families = {families.get(seat, seat) for seat in found}
    theirs = {families.get(seat, seat) for seat in addressing}
    return addressing if 2 * len(theirs) < len(all_families) else frozenset()


def _found(name: str, text: str) -> bool:
    """By lines, and with the lines joined: an order may be split over them."""
    pattern = _COMPILED[name]
    return bool(pattern.search(text) or pattern.search(text.replace("\n", " ")))


def _plain(text: str) -> str:
    """Look-alikes of Latin letters as those, without invisible characters, white space as one."""
    text = clean(text[:TEXT_CHARS_MAX])
    if not text.isascii():
        text = unicodedata.normalize("NFKC", str(_UNSEEN.sub("", text)))[: 2 * TEXT_CHARS_MAX].translate(_HOMOGLYPHS)
    return "\n".join(" ".join(line.split()) for line in text.split("\n"))
