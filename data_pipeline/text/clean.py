"""Cleaning of raw text, the same for preparation and prediction."""

import re
import unicodedata

# Control characters but tab, line feed and carriage return; format characters (category Cf:
# zero-width space, soft hyphen, byte order mark, directional marks, language tags); the replacement
# character (a decoding error of the past); lone surrogates (which UTF-8 cannot write). ZWNJ and ZWJ
# (U+200C, U+200D) stay: they shape words in Persian and the Indic scripts.
_DROPPED = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2"
    "\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ud800-\udfff\ufeff"
    "\ufff9-\ufffb\ufffd\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]+"
)
_DROPPED_ASCII = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]+")


def clean_text(text: str) -> str:
    """Text in Unicode form NFC without control characters and with single spaces.

    Control and format characters are removed, and every run of white space (also line breaks and
    no-break spaces) becomes one space, none at either end. What BERT's own tokenization drops is
    dropped in the same way, without leaving a space, so cleaned text gives the same WordPiece
    pieces; only with a cased vocabulary can NFC make a difference. Cleaning again changes nothing.
    """
    if text.isascii():
        return " ".join(_DROPPED_ASCII.sub("", text).split())
    # Removed first: such a character between a letter and its accent would prevent composition.
    return " ".join(unicodedata.normalize("NFC", _DROPPED.sub("", text)).split())
