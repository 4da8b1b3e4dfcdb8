"""The hash of a document, which finds duplicates and decides the split."""

import dataclasses
import hashlib
from collections.abc import Iterable

# A key is a polynomial over the hashes of the paragraphs, modulo a Mersenne prime: the keys of two
# pieces give the key of the whole, wherever it was cut.
_MODULUS = (1 << 127) - 1
_BASE = 0x5DEECE66D2B7E151628AED2A6ABF7158


@dataclasses.dataclass(frozen=True)
class DocumentKey:
    """A 127-bit hash: the same for two documents if their cleaned paragraphs are the same.

    `paragraphs` counts those that `value` covers so far.
    """

    value: int = 0
    paragraphs: int = 0

    def __add__(self, other: "DocumentKey") -> "DocumentKey":
        """The key of this text followed by the other."""
        shifted = self.value * pow(_BASE, other.paragraphs, _MODULUS)
        return DocumentKey((shifted + other.value) % _MODULUS, self.paragraphs + other.paragraphs)

    def fraction(self) -> float:
        """A number in [0, 1) that is uniform over documents."""
        return self.value / _MODULUS

    def digest(self) -> bytes:
        return self.value.to_bytes(16, "big")


def document_key(paragraphs: Iterable[str]) -> DocumentKey:
    """The key of cleaned paragraphs."""
    value = count = 0
    for paragraph in paragraphs:
        digest = hashlib.blake2b(paragraph.encode(), digest_size=16).digest()
        value = (value * _BASE + int.from_bytes(digest, "big")) % _MODULUS
        count += 1
    return DocumentKey(value, count)
