"""A tokenizer whose pieces are letters, so that tests can read ids off a text."""

from data_pipeline.tokenization.interface import SPECIAL_PIECES
from data_pipeline.tokenization.wordpiece import WordPiece

_SPECIAL = list(SPECIAL_PIECES.values())
_CHARACTERS = list(map(chr, range(ord("!"), 127)))
LETTERS = WordPiece([*_SPECIAL, *_CHARACTERS, *("##" + c for c in _CHARACTERS)], lowercase=False)


def shown(ids):
    """The pieces of some ids, special ones as a mark: ^ for [CLS], | for [SEP], _ for [PAD]."""
    marks = {"[CLS]": "^", "[SEP]": "|", "[PAD]": "_"}
    pieces = [LETTERS.id_to_piece(int(token)) for token in ids]
    return "".join(marks.get(piece, piece[-1]) for piece in pieces)
