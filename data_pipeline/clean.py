"""Cleaning of raw text, the same for preparation and prediction."""

import re
import unicodedata

# C0 and C1 controls but for the white space among them, format characters (category Cf: zero-width
# space, soft hyphen, byte order mark, directional marks, language tags), the replacement character
# (a decoding error of the past), lone surrogates, private use and noncharacters: nothing a model
# could learn a meaning for. ZWNJ and ZWJ (U+200C, U+200D) stay: they shape words in Persian and the
# Indic scripts.
_DROPPED = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2"
    "\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ud800-\udfff\ue000-\uf8ff\ufdd0-\ufdef"
    "\ufeff\ufff0-\ufffb\ufffd-\uffff\U000110bd\U000110cd\U00013430-\U0001345f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff\U000f0000-\U0010ffff]+"
)
_DROPPED_ASCII = re.compile("[\x00-\x08\x0e-\x1b\x7f]+")


def clean_text(text: str) -> str:
    """Text in Unicode form NFC without control characters and with single spaces.

    Args:
      text: any string.

    Returns:
      The text with control and format characters removed, every run of white space (line breaks
      and no-break spaces too) turned into one space, and none at either end. Cleaning it again
      changes nothing.
    """
    if text.isascii():
        return " ".join(_DROPPED_ASCII.sub("", text).split())
    # Removed first: a dropped character between a letter and its accent would hinder composition.
    return " ".join(unicodedata.normalize("NFC", _DROPPED.sub("", text)).split())
