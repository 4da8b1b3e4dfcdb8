import unicodedata

import pytest

from data_pipeline.text.clean import clean_text


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("  two \t\n words\r\n", "two words"),
        ("a\x00b\x07c\x7fd\x1be", "abcde"),
        ("a\x0bb\x0cc\x1cd\x85e", "abcde"),
        ("\ufeffstart\u200b of \ufffdtext\u00ad\u2060", "start of text"),
        ("no\u00a0break\u3000wide", "no break wide"),
        ("cafe\u0301", "café"),
        ("e\u200b\u0301", "é"),  # composed although a dropped character stood between
        ("نمی\u200cخواهم", "نمی\u200cخواهم"),  # ZWNJ is spelling in Persian
        ("\ud800x\ue000", "x\ue000"),
        ("", ""),
        (" \u200b ", ""),
    ],
)
def test_clean_text(raw, expected):
    assert clean_text(raw) == expected
    assert clean_text(expected) == expected


def test_every_control_character_is_dropped_or_a_space():
    kept = "\u200c\u200d"
    for code in range(0x110000):
        character = chr(code)
        category = unicodedata.category(character)
        if category in ("Cc", "Cf", "Cs") and character not in kept:
            expected = "a b" if character in "\t\n\r" else "ab"
            assert clean_text(f"a{character}b") == expected, hex(code)
