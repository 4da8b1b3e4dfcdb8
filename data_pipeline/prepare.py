"""Text into a corpus folder: `python -m data_pipeline.prepare --input FILES --output DIR`.

The steps, each in its own module: sources → clean → sentences → tokenizer (encode) → shards, then
a report. The result depends on the input and the settings only, not on the number of processes or
on interruptions. `python -m data_pipeline.prepare --verify DIR` reads every byte of a corpus and
checks it against its checksums.
"""

import dataclasses
import errno
import importlib.metadata
import itertools
import os
import platform
import signal
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from data_pipeline import report, sources
from data_pipeline.clean import clean_text
from data_pipeline.embedded import EmbeddedSource
from data_pipeline.encode import encode_chunks, worker_pool
from data_pipeline.errors import DataError
from data_pipeline.journal import Journal, difference
from data_pipeline.sentences import Language
from data_pipeline.shards import (
    FORMAT_VERSION,
    SPLITS,
    Corpus,
    open_corpus,
    token_dtype,
    write_json,
)
from data_pipeline.sources import Chunk, FileSource, Source, TfdsSource
from data_pipeline.tokenizer import (
    CONFIG_FILE,
    MINIMUM_VOCAB_SIZE,
    Kind,
    Tokenizer,
    load_model,
    load_tokenizer,
    load_vocab,
    train_tokenizer,
)
from data_pipeline.writing import CorpusWriter

DEFAULT_VOCAB_SIZE = 30_522  # BERT's
_JOURNAL = "progress.sqlite"
_EMBEDDED_TEXT = "embedded.txt"


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
    """How to find sentences: en, zh, or lines (each line is one sentence, for any language)."""

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
    """Tokens of one shard; an interrupted run goes on after its last finished shard."""

    processes: int = dataclasses.field(default_factory=lambda: os.cpu_count() or 1)
    """Worker processes, by default one for each processor. The result does not depend on it."""


def prepare(config: PrepareConfig) -> Corpus:
    """Makes a corpus, or opens the one that the same settings made before.

    An interrupted call leaves a folder that is not yet a corpus; the same call goes on with it.

    Returns:
      The opened corpus, with the report beside it in `report.md`.

    Raises:
      DataError: a setting, an input or the output folder cannot be used, or the disk is full. But
        for the full disk, nothing was written.
    """
    _check_settings(config)
    if (config.output / "corpus.json").exists():
        return _open_finished(config)
    given = _given_tokenizer(config)
    inputs = _open_sources(config)
    size = _check_sources(inputs)
    identity = {**_settings(config), "input": [source.identity for source in inputs]}
    journal = None
    try:
        journal = _open_journal(config.output, identity)
        return _build(config, given, inputs, size, journal)
    except (OSError, sqlite3.OperationalError) as error:
        if getattr(error, "errno", None) != errno.ENOSPC and "disk is full" not in str(error):
            raise
        raise DataError(
            f"the disk of {config.output} is full; free some space and repeat the same command, "
            "which goes on after the last finished shard"
        ) from None
    finally:
        if journal is not None:
            journal.close()


def _check_settings(config: PrepareConfig) -> None:
    if not config.input:
        raise DataError("--input names no text; give files, folders, patterns or embedded")
    if config.output == Path():
        raise DataError("--output names no folder; give the corpus folder to make")
    if config.vocab and config.model:
        raise DataError("--vocab and --model exclude each other; give one tokenizer")
    kind = config.tokenizer or ("wordpiece" if config.model is None else "sentencepiece")
    if (config.vocab and kind != "wordpiece") or (config.model and kind == "wordpiece"):
        raise DataError(
            f"--tokenizer {kind} does not fit; --vocab goes with wordpiece, --model with a "
            "sentencepiece kind"
        )
    if config.vocab_size is not None and (config.vocab or config.model):
        raise DataError("--vocab-size is for a tokenizer to train; a given one has its own size")
    if config.vocab_size is not None and config.vocab_size < MINIMUM_VOCAB_SIZE:
        raise DataError(
            f"--vocab-size {config.vocab_size} is too small; it is at least {MINIMUM_VOCAB_SIZE}"
        )
    if not 0 <= config.heldout_fraction < 1:
        raise DataError(
            f"--heldout-fraction {config.heldout_fraction} is not a share; give 0 to below 1"
        )
    if not 1 <= config.max_shard_tokens <= 1 << 30:
        raise DataError(
            f"--max-shard-tokens {config.max_shard_tokens} is out of range; give 1 to {1 << 30:,}"
        )
    if config.tokenizer_sample_mb <= 0:
        raise DataError(
            f"--tokenizer-sample-mb {config.tokenizer_sample_mb} is no text; give more than 0"
        )
    if config.processes < 1:
        raise DataError(f"--processes {config.processes} can do nothing; give 1 or more")


def _settings(config: PrepareConfig) -> dict[str, Any]:
    """What the result depends on, in JSON's types."""
    settings = dataclasses.asdict(config)
    del settings["output"], settings["processes"]
    return {
        name: list(value)
        if isinstance(value, tuple)
        else str(value)
        if isinstance(value, Path)
        else value
        for name, value in settings.items()
    }


def _open_finished(config: PrepareConfig) -> Corpus:
    corpus = open_corpus(config.output)
    made_with = corpus.metadata["made_by"]["settings"]
    if made_with != _settings(config):
        raise DataError(
            f"{config.output} holds a corpus made with other settings "
            f"({difference(made_with, _settings(config))}); choose another --output or delete it"
        )
    _remove_work_files(config.output)
    print(f"{config.output} is there already, made with the same settings; nothing to do")
    return corpus


def _given_tokenizer(config: PrepareConfig) -> Tokenizer | None:
    if config.vocab:
        return load_vocab(config.vocab, config.lowercase)
    return load_model(config.model) if config.model else None


def _open_sources(config: PrepareConfig) -> list[Source]:
    opened: list[Source] = []
    for name in config.input:
        if name == sources.EMBEDDED:
            opened.append(EmbeddedSource(config.output / _EMBEDDED_TEXT))
        elif name.startswith(sources.TFDS_PREFIX):
            opened.append(TfdsSource(name.removeprefix(sources.TFDS_PREFIX), config.text_field))
        else:
            files = sources.find_files(name)
            inside = config.output.resolve()
            if any(inside in file.resolve().parents for file in files):
                raise DataError(
                    f"--output {config.output} lies where --input {name} looks for text; choose "
                    "a folder elsewhere"
                )
            opened += [FileSource(file, config.text_field) for file in files]
    return opened


def _check_sources(inputs: Sequence[Source]) -> int | None:
    """Reads all files once; the bytes of their text, None if a dataset's are not known."""
    files = [source for source in inputs if isinstance(source, FileSource)]
    on_disk = sum(file.bytes for file in files)
    packed = any(file.path.name.lower().endswith(".gz") for file in files)
    sizes = ((size, size) for file in files for size in file.check())
    total = sum(report.tracked(sizes, "checking", None if packed else on_disk))
    return total if len(files) == len(inputs) else None


def _open_journal(folder: Path, identity: dict[str, Any]) -> Journal:
    if folder.exists() and not folder.is_dir():
        raise DataError(f"--output {folder} is a file; name a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / _JOURNAL).exists():
        raise DataError(f"--output {folder} holds other files; name a new or an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    return Journal(folder / _JOURNAL, identity)


def _build(
    config: PrepareConfig,
    given: Tokenizer | None,
    inputs: Sequence[Source],
    size: int | None,
    journal: Journal,
) -> Corpus:
    for source in inputs:
        if isinstance(source, EmbeddedSource):
            _extract(source, config.processes)
            if len(inputs) == 1:
                size = source.path.stat().st_size
    if not (config.output / CONFIG_FILE).exists():
        (given or _train(config, inputs, size)).save(config.output)
    tokenizer = load_tokenizer(config.output)
    with CorpusWriter(
        config.output,
        token_dtype(tokenizer.vocab_size),
        config.heldout_fraction,
        config.max_shard_tokens,
        journal,
    ) as writer:
        chunks = itertools.islice(_chunks(inputs), writer.chunk, None)
        encoded = encode_chunks(chunks, config.output, config.language, config.processes)
        sized = ((chunk.source_bytes, chunk) for chunk in encoded)
        done = min(writer.chunk * sources.CHUNK_BYTES, size or 0)
        for chunk in report.tracked(sized, "encoding", size, done):
            writer.add(chunk)
        writer.commit()
    return _finish(config, tokenizer, writer)


def _chunks(inputs: Sequence[Source]) -> Iterator[Chunk]:
    return itertools.chain.from_iterable(source.chunks() for source in inputs)


def _extract(source: EmbeddedSource, processes: int) -> None:
    if source.path.exists():
        return
    print("reading the documentation of the installed Python packages", file=sys.stderr)
    if processes == 1:
        source.extract()
        return
    with worker_pool(processes) as pool:
        source.extract(
            lambda function, paths: report.tracked(
                zip(
                    (path.stat().st_size for path in paths),
                    pool.map(function, paths, chunksize=16),
                    strict=True,
                ),
                "reading",
                sum(path.stat().st_size for path in paths),
            )
        )


def _train(config: PrepareConfig, inputs: Sequence[Source], size: int | None) -> Tokenizer:
    """Trains on chunks spread evenly over the input, or on its beginning if its size is unknown."""
    print("training the tokenizer", file=sys.stderr)
    budget = int(config.tokenizer_sample_mb * 1e6)
    share = min(1.0, budget / size) if size else 1.0
    texts: list[str] = []
    for index, chunk in enumerate(_chunks(inputs)):
        if int((index + 1) * share) > int(index * share):
            documents = sources.chunk_documents(chunk)
            texts += (clean_text(line) for lines in documents for line in lines)
            budget -= len(chunk.data)
        if budget <= 0:
            break
    return train_tokenizer(
        texts,
        config.tokenizer or "wordpiece",
        config.vocab_size or DEFAULT_VOCAB_SIZE,
        config.lowercase,
    )


def _finish(config: PrepareConfig, tokenizer: Tokenizer, writer: CorpusWriter) -> Corpus:
    """Writes the report and, last of all, corpus.json."""
    metadata: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "tokenizer": tokenizer.description,
        "vocab_size": tokenizer.vocab_size,
        "special_ids": tokenizer.special_ids,
        "dtype": token_dtype(tokenizer.vocab_size).name,
        "splits": {
            split: {
                **{
                    count: sum(shard[count] for shard in writer.shards[split])
                    for count in ("documents", "sentences", "tokens")
                },
                "shards": writer.shards[split],
            }
            for split in SPLITS
        },
    }
    corpus = Corpus(config.output, metadata)
    figures = report.measure(corpus, tokenizer, writer.duplicates)
    if not figures["tokens"]:
        raise DataError("the input holds no sentence; see what --input names")
    trained = config.vocab is None and config.model is None
    asked = (config.vocab_size or DEFAULT_VOCAB_SIZE) if trained else None
    metadata |= {
        "heldout_unigram_entropy": figures["heldout_unigram_entropy"],
        "unknown_rate": figures["unknown_rate"],
        "duplicates": figures["duplicates"],
        "made_by": {"settings": _settings(config), "versions": _versions()},
    }
    shown = (
        report.rows(figures, corpus),
        report.warnings(figures, tokenizer.vocab_size, asked),
        report.sample(corpus, tokenizer),
        f"python run_pretrain.py tiny --corpus {config.output}",
    )
    (config.output / "report.md").write_text(report.markdown(*shown), encoding="utf-8")
    write_json(config.output / "corpus.json", metadata)
    _remove_work_files(config.output)
    report.show(*shown)
    return corpus


def _remove_work_files(folder: Path) -> None:
    for name in (_JOURNAL, _JOURNAL + "-journal", _EMBEDDED_TEXT):
        (folder / name).unlink(missing_ok=True)


def _versions() -> dict[str, str]:
    libraries = ("numpy", "tokenizers", "sentencepiece", "sentencex")
    return {
        "python": platform.python_version(),
        **{library: importlib.metadata.version(library) for library in libraries},
    }


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str]) -> None:
    """The command line; a mistake is one line and exit code 2."""
    from data_pipeline.command_line import fail, parse

    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if arguments[:1] == ["--verify"]:
            if len(arguments) != 2:
                raise DataError("--verify takes one corpus folder and no other option")
            corpus = open_corpus(arguments[1], verify=True)
            print(f"{corpus.folder} is whole: every file fits its checksum")
        else:
            prepare(
                parse(
                    PrepareConfig,
                    arguments,
                    program="python -m data_pipeline.prepare",
                    description="Turn text into a corpus folder for pre-training. With --verify "
                    "DIR alone: check every byte of a corpus.",
                )
            )
    except DataError as error:
        fail(error)
    except KeyboardInterrupt:
        fail("interrupted; the same command goes on after the last finished shard", code=130)


if __name__ == "__main__":
    main(sys.argv[1:])
