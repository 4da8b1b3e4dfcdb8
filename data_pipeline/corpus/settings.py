"""The settings of a preparation, checked before any text is read."""

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

from data_pipeline.errors import DataError
from data_pipeline.text.sentences import Language
from data_pipeline.text.words import Segmenter, check_segmenter
from data_pipeline.tokenization.training import Kind, check_vocab_size

DEFAULT_VOCAB_SIZE = 30_522  # BERT's


@dataclasses.dataclass(frozen=True)
class PrepareConfig:
    """Turn text into a corpus folder for pre-training."""

    input: tuple[str, ...] = ()
    """Text files (a blank line ends a document), JSON Lines files, either of them gzipped (.gz),
    folders of these, quoted patterns such as "books/*.txt", `embedded` (the documentation of the
    installed Python packages), or `tfds:NAME/CONFIG` (TensorFlow Datasets)."""

    output: Path = Path()
    """The corpus folder to make. It and --input must be given."""

    language: Language = "en"
    """How to find sentences: en, zh, or lines (each line is a sentence, for any language)."""

    word_segmenter: Segmenter | None = None
    """Find the words of Chinese with this segmenter (jieba, to be installed), for masking whole
    words and spans. Otherwise the tokenizer's pieces tell where words start."""

    tokenizer: Kind | None = None
    """Kind of tokenizer to train: by default wordpiece, or what --vocab or --model imply."""

    vocab_size: int | None = None
    """Number of pieces of the tokenizer to train, by default 30522."""

    vocab: Path | None = None
    """Use this WordPiece vocab.txt instead of training one."""

    model: Path | None = None
    """Use this SentencePiece .model instead of training one."""

    lowercase: bool = True
    """Lower-case the text (uncased). A given .model has its own normalisation."""

    text_field: str = "text"
    """The field of JSON records, or the feature of a TensorFlow dataset, that holds the text."""

    heldout_fraction: float = 0.02
    """Share of the documents to hold out for evaluation."""

    tokenizer_sample_mb: float = 20.0
    """Megabytes of text, spread over the input, to train the tokenizer on."""

    max_shard_tokens: int = 1 << 27
    """Tokens of one shard; an interrupted run continues after its last finished shard."""

    processes: int = dataclasses.field(default_factory=lambda: os.cpu_count() or 1)
    """Worker processes, by default one for each processor. The result does not depend on it."""


def check_settings(config: PrepareConfig) -> None:
    """Refuses settings that are wrong for any input."""
    if not config.input:
        raise DataError("--input names no text; give files, folders, patterns or embedded")
    if config.output == Path():
        raise DataError("--output names no folder; give the corpus folder to make")
    if config.vocab and config.model:
        raise DataError("--vocab and --model exclude each other; give one tokenizer")
    if config.word_segmenter:
        check_segmenter(config.word_segmenter)
    kind = config.tokenizer or ("wordpiece" if config.model is None else "sentencepiece")
    if (config.vocab and kind != "wordpiece") or (config.model and kind == "wordpiece"):
        raise DataError(
            f"--tokenizer {kind} does not fit; --vocab goes with wordpiece, --model with a "
            "sentencepiece kind"
        )
    if config.vocab_size is not None and (config.vocab or config.model):
        raise DataError("--vocab-size is for a tokenizer to train; a given one has its own size")
    check_vocab_size(DEFAULT_VOCAB_SIZE if config.vocab_size is None else config.vocab_size)
    for name, is_good, expected in (
        ("heldout_fraction", 0 <= config.heldout_fraction < 1, "0 or more, below 1"),
        ("max_shard_tokens", 1 <= config.max_shard_tokens <= 1 << 30, f"1 to {1 << 30:,}"),
        ("tokenizer_sample_mb", 0 < config.tokenizer_sample_mb < math.inf, "more than 0"),
        ("processes", config.processes >= 1, "1 or more"),
    ):
        if not is_good:
            option = f"--{name.replace('_', '-')} {getattr(config, name)}"
            raise DataError(f"{option} is out of range; give {expected}")


def settings_of(config: PrepareConfig) -> dict[str, Any]:
    """What the result depends on, in JSON's types."""
    settings = dataclasses.asdict(config)
    del settings["output"], settings["processes"]
    if config.word_segmenter is None:  # as in corpora made before this setting existed
        del settings["word_segmenter"]
    in_json: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    return in_json
