"""BERT's tokenization in slow, plain Python: a rule at a time, a character at a time.

The rules are those of google-research/bert, tokenization.py. A recording of what the original gives
(tests/golden/tokenization) checks this file.
"""

import unicodedata
from collections.abc import Container

CJK_BLOCKS = [
    (0x4E00, 0x9FFF),  # CJK Unified Ideographs
    (0x3400, 0x4DBF),  # Extension A
    (0x20000, 0x2A6DF),  # Extension B
    (0x2A700, 0x2B73F),  # Extension C
    (0x2B740, 0x2B81F),  # Extension D
    (0x2B820, 0x2CEAF),  # Extension E
    (0xF900, 0xFAFF),  # Compatibility Ideographs
    (0x2F800, 0x2FA1F),  # Compatibility Ideographs Supplement
]


def is_punctuation(character: str) -> bool:
    if character in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~":
        return True
    return unicodedata.category(character) in ("Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po")


def words(text: str, lowercase: bool) -> list[str]:
    """The words that are then cut into pieces."""
    # Dropped characters and white space.
    clean = ""
    for character in text:
        category = unicodedata.category(character)
        if character in " \t\n\r" or category == "Zs":
            clean += " "
        elif category not in ("Cc", "Cf") and ord(character) not in (0, 0xFFFD):
            clean += character
    # CJK characters stand alone.
    spaced = ""
    for character in clean:
        is_cjk = any(first <= ord(character) <= last for first, last in CJK_BLOCKS)
        spaced += f" {character} " if is_cjk else character
    found = []
    for token in spaced.split():
        if lowercase:
            decomposed = unicodedata.normalize("NFD", token.lower())
            token = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
        # Punctuation stands alone.
        word = ""
        for character in token:
            if is_punctuation(character):
                found += [word, character]
                word = ""
            else:
                word += character
        found.append(word)
    return " ".join(found).split()


def pieces(text: str, vocabulary: Container[str], lowercase: bool) -> list[str]:
    """The longest piece that the rest of the word begins with, again and again."""
    result = []
    for word in words(text, lowercase):
        cut: list[str] = []
        rest = word
        while rest and len(word) <= 200:
            prefix = "##" if cut else ""
            sizes = range(len(rest), 0, -1)
            size = next((n for n in sizes if prefix + rest[:n] in vocabulary), 0)
            if not size:
                break
            cut.append(prefix + rest[:size])
            rest = rest[size:]
        result += ["[UNK]"] if rest else cut
    return result
