"""Whether a text declines to answer. Conservative: a refusal taken for an answer costs a vote, an answer taken for a
refusal costs the answer."""

from __future__ import annotations

from typing import Final

import re2  # type: ignore[import-untyped]

CHARS_MAX: Final = 700
"""Longer texts say something."""
OPENING_CHARS: Final = 240

_ENGLISH_SORRY: Final = (
    r"(?:(?:i['’]?m|i am)(?: very| really)? sorry|sorry|i apologi[sz]e|unfortunately|no"
    r"|as an ai(?: language model| assistant)?)[,.;:!\s-]{0,4}(?:but )?"
)
_ENGLISH_CANNOT: Final = (
    r"i(?:['’]m| am)? (?:can(?:no|['’])t|can not|won['’]?t|will not|unable to|not able to|not comfortable"
    r"|must decline|have to decline|must refuse)(?: to| you| really| actually| directly| just| ethically)*"
)
_ENGLISH_VERBS: Final = (
    r"(?:help(?:[.,!]| (?:you|with|out|create|write|provide|in)\b|$)|assist|(?:answer|respond to) (?:that|this|your)"
    r"|provide|comply|fulfil+|advise|engage|discuss|support|do (?:that|this)|create|write|generate|give|offer|share"
    r"|continue with|complete th|participate|produce|with (?:that|this))"
)
_DECLINES: Final = r"i (?:must |have to |respectfully )?(?:decline|refuse) to\b"
_OTHERS: Final = (
    # Apology, what cannot be, and what it cannot do; a sentence has them in this order.
    ("(?:es )?tut mir leid|leider|entschuldigung|ich", "kann|darf|werde", "nicht|keine?n?", "helfen|(?:be)?antworten"),
    ("(?:je suis )?désolée?|je regrette|malheureusement|je", "ne (?:peux|puis|suis)", "pas", "aider|répondre|fournir"),
    ("lo siento|lamento|disculpa", "no puedo", "ayudar|responder|proporcionar|cumplir|crear"),
    ("desculpe|sinto muito|lamento", "não posso", "ajudar|responder|fornecer|atender|criar"),
    ("mi dispiace|spiacente", "non posso", "aiutar|rispondere|fornire|soddisfare|creare"),
    ("het spijt me|sorry", "ik kan|kan ik", "niet|geen", "helpen|beantwoorden|geven"),
    ("przykro mi|przepraszam", "nie mogę", "pomóc|odpowiedzieć|udzielić|spełnić"),
    ("üzgünüm|maalesef", "yardımcı olamam|yanıtlayamam|cevap veremem|sağlayamam"),
    ("извините|простите|к сожалению|мне жаль", "не могу", "помочь|ответить|предоставить|выполнить"),
    ("вибачте|на жаль", "не можу", "допомогти|відповісти|надати"),
    ("很?抱歉|对不起|對不起", "无法|無法|不能", "帮助|协助|提供|回答|满足|幫助|協助"),
    ("申し訳(?:ありません。)?|すみません", "お答え|お手伝い|ご提供", "できません|できかねます"),
    ("(?:죄송|미안)(?:합니다[.,])?", "도와드릴|답변|제공|도울|도움을", "수 없|어렵"),
    ("عذرا|عذرًا|آسف|أعتذر", "لا أستطيع|لا يمكنني|لن أتمكن", "المساعدة|مساعدتك|الإجابة|تقديم"),
)  # fmt: skip
_WITHIN: Final = r"[^.!?。\n]{0,60}"
_PATTERNS: Final = (
    f"(?:{_ENGLISH_SORRY})*{_ENGLISH_CANNOT} {_ENGLISH_VERBS}",
    _DECLINES,
    *(_WITHIN.join(f"(?:{part})" for part in parts) for parts in _OTHERS),
)
_REFUSAL: Final = re2.compile(r"(?i)^[\s*_>\"'“]*(?:" + "|".join(_PATTERNS) + ")")


def refuses(text: str) -> bool:
    """Whether a short text opens with a refusal, in one of fifteen languages."""
    text = text.strip()
    return 0 < len(text) <= CHARS_MAX and _REFUSAL.search(text[:OPENING_CHARS]) is not None
