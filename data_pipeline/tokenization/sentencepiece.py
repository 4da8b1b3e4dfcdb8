"""SentencePiece models, unigram or BPE, as tokenizers of the pipeline."""

import io
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from data_pipeline.errors import DataError
from data_pipeline.tokenization.interface import (
    CHARACTER_COVERAGE,
    REQUIRED_CHARACTERS,
    SPECIAL_PIECES,
    Tokenizer,
    join_ids,
)


class SentencePiece(Tokenizer):
    """A SentencePiece model, unigram or BPE.

    The special pieces are the model's own if it has them under a usual name ([MASK] or <mask> and
    so on; its unknown piece always). Those it lacks get ids after its last one, so `vocab_size` may
    exceed the model's by up to four.

    `lowercase` says whether the serialized model was trained on lower-cased text; it is None for a
    given one, which has its own normalisation. `name` is for error messages.
    """

    kind = "sentencepiece"
    file = "sentencepiece.model"

    def __init__(self, model: bytes, lowercase: bool | None, name: str = "the model"):
        import sentencepiece

        try:
            if not model:  # to the library, that would mean no model
                raise RuntimeError
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError:
            raise DataError(
                f"{name} is not a SentencePiece model; give a .model file that spm_train wrote"
            ) from None
        size = self._processor.get_piece_size()
        pieces = [self._processor.id_to_piece(i) for i in range(size)]
        special_ids = {}
        for key, piece in SPECIAL_PIECES.items():
            names = (piece, f"<{key}>")
            found = [i for i in map(self._processor.piece_to_id, names) if pieces[i] in names]
            if key == "unk":
                found = [self._processor.unk_id()]
            special_ids[key] = found[0] if found else len(pieces)
            if not found:
                pieces.append(piece)
        for key, token_id in special_ids.items():
            pieces[token_id] = SPECIAL_PIECES[key]
        super().__init__(model, pieces, special_ids, lowercase)
        self.starts_word = np.array([piece.startswith("▁") for piece in pieces])
        self.starts_word[list(special_ids.values())] = True

    def encode_batch(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        ids, lengths = join_ids(self._processor.encode(list(texts), num_threads=1))
        # A model may have [MASK] as a user-defined piece, which it would find in the text.
        ids[np.isin(ids, list(self.special_ids.values()))] = self.special_ids["unk"]
        return ids, lengths

    def token_offsets(self, texts: Sequence[str]) -> np.ndarray:
        encoded = self._processor.encode(list(texts), num_threads=1, return_type="offset_mapping")
        offsets = (start for text in encoded for start, _ in text["offsets"])
        return np.fromiter(offsets, np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        special = set(self.special_ids.values())
        runs = itertools.groupby((int(i) for i in ids), key=special.__contains__)
        return " ".join(
            " ".join(map(self.id_to_piece, run))
            if is_special
            else self._processor.decode(list(run))
            for is_special, run in runs
        )


def load_model(path: Path, lowercase: bool | None = None) -> SentencePiece:
    """Reads a SentencePiece `.model` file."""
    try:
        model = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the model {path}: {error.strerror}") from None
    return SentencePiece(model, lowercase, str(path))


def train_sentencepiece(
    texts: Sequence[str], model_type: str, vocab_size: int, lowercase: bool
) -> SentencePiece:
    """Trains a model; see `training.train_tokenizer`."""
    import sentencepiece

    model = io.BytesIO()
    names = SPECIAL_PIECES
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type=model_type,
            vocab_size=vocab_size,
            hard_vocab_limit=False,
            normalization_rule_name="nmt_nfkc_cf" if lowercase else "nmt_nfkc",
            character_coverage=CHARACTER_COVERAGE,
            required_chars=REQUIRED_CHARACTERS,
            byte_fallback=True,
            max_sentence_length=1 << 16,
            pad_id=0,
            unk_id=1,
            bos_id=2,
            eos_id=3,
            pad_piece=names["pad"],
            unk_piece=names["unk"],
            bos_piece=names["cls"],
            eos_piece=names["sep"],
            control_symbols=[names["mask"]],
            num_threads=16,  # fixed: the sums, and so the model, depend on it
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = str(error).strip().rsplit("\n", 1)[-1]
        raise DataError(
            f"SentencePiece cannot make {vocab_size:,} pieces of this text: {reason}"
        ) from None
    return SentencePiece(model.getvalue(), lowercase)
