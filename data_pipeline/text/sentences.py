"""Splitting paragraphs into sentences."""

import re
from collections.abc import Callable
from typing import Literal, get_args

from data_pipeline.errors import DataError

Language = Literal["en", "zh", "lines"]

# Where the library ends a sentence too early: after an exclamation inside a longer sentence, ...
_EXCLAMATION = re.compile(r"""(?:[!?…]|\.\.\.)["”’')\]]*\s*$|[.]["”’')\]]+\s*$""")
# ... after a list number, ...
_LIST_NUMBER = re.compile(r"\W*(?:\d{1,3}|[a-zA-Z]|[ivx]{1,5})[.)]\s*$")
# ... between an abbreviation and its number, ...
_ABBREVIATION = re.compile(
    r"\b(?:approx|art|bk|ca|ch|chap|cf|eq|eqs|fig|figs|nos|p|para|pp|sec|secs|tab|vol|vols)\.\s*$",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[(\[]?(?:\d|[IVXLC]+\b)")
# ... and before closing brackets or bare punctuation.
_NO_WORD = re.compile(r"[\W_]*$")
# Where it misses the end of one: after a full stop inside a closing bracket.
_BRACKETED_END = re.compile(r"""(?<=[.!?][)\]])\s+(?=["“‘(\[]?[A-Z])""")

_CHINESE_SENTENCE = re.compile(
    r"""[^。！？；｡!?]*(?:[。！？；｡!?]+[”’"'」』）)】》〉\]]*|$)"""  # a mark, then what it closes
)


def splitter(language: str) -> Callable[[str], list[str]]:
    """A function from a cleaned paragraph to its sentences, without the spaces between them.

    The language is "en" (the `sentencex` library with a few repairs), "zh" (splits after 。！？；
    and ASCII !? with the closing quotes and brackets that follow) or "lines" (no splits).
    """
    splitters = {"en": _split_english, "zh": _split_chinese, "lines": _keep_line}
    if language not in splitters:
        raise DataError(
            f"there is no sentence splitter for language {language!r}, only for "
            f"{', '.join(get_args(Language))}; put each sentence on a line of its own and use lines"
        )
    return splitters[language]


def _split_english(text: str) -> list[str]:
    from sentencex import segment

    sentences: list[str] = []
    for part in segment("en", text):
        if sentences and _continues(sentences[-1], part):
            sentences[-1] += part
        else:
            sentences.append(part)
    return [
        stripped
        for sentence in sentences
        for half in _BRACKETED_END.split(sentence)
        if (stripped := half.strip())
    ]


def _continues(before: str, part: str) -> bool:
    return bool(
        (part[0].islower() and _EXCLAMATION.search(before))
        or _LIST_NUMBER.match(before)
        or (_NUMBER.match(part) and _ABBREVIATION.search(before))
        or _NO_WORD.match(part)
    )


def _split_chinese(text: str) -> list[str]:
    parts = _CHINESE_SENTENCE.findall(text)
    return [stripped for part in parts if (stripped := part.strip())]


def _keep_line(text: str) -> list[str]:
    return [text] if text else []
