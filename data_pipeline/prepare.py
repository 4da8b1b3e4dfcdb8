"""Text into a corpus folder: `python -m data_pipeline.prepare --input FILES --output DIR`.

The steps, each in its own module: sources → clean → sentences → tokenizer (encode) → shards, then
a report. The result depends on the input and the settings alone, not on the number of processes or
on interruptions.
"""

import glob
import hashlib
import importlib.metadata
import itertools
import json
import math
import os
import platform
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from data_pipeline import tfds
from data_pipeline.corpus import report
from data_pipeline.corpus.encode import encode_chunks
from data_pipeline.corpus.journal import JOURNAL_FILE, Journal, difference, output_folder
from data_pipeline.corpus.progress import tracked
from data_pipeline.corpus.settings import (
    DEFAULT_VOCAB_SIZE,
    PrepareConfig,
    check_settings,
    settings_of,
)
from data_pipeline.corpus.shards import Corpus, corpus_metadata, open_corpus, token_dtype
from data_pipeline.corpus.writing import CorpusWriter
from data_pipeline.errors import DataError
from data_pipeline.files import write_json
from data_pipeline.text import sources
from data_pipeline.text.clean import clean_text
from data_pipeline.text.embedded import EmbeddedSource
from data_pipeline.text.sources import Chunk, FileSource, Source, TfdsSource
from data_pipeline.tokenization.interface import CONFIG_FILE, Tokenizer
from data_pipeline.tokenization.loading import load_tokenizer
from data_pipeline.tokenization.sentencepiece import load_model
from data_pipeline.tokenization.training import train_tokenizer
from data_pipeline.tokenization.wordpiece import load_vocab
from data_pipeline.workers import worker_pool

_EMBEDDED_TEXT = "embedded.txt"


def prepare(config: PrepareConfig, *, shows_next: bool = True) -> Corpus:
    """Makes a corpus, or opens the one that the same settings made before.

    An interrupted call leaves a folder that is not yet a corpus; the same call continues it. The
    folder also gets the report, `report.md`. `shows_next` prints the command that trains on it.
    """
    check_settings(config)
    if os.path.exists(config.output / "corpus.json"):
        return _open_finished(config)
    with output_folder(config.output, settings_of(config)) as journal:
        given = _given_tokenizer(config)
        inputs = {name: _open_input(config, name) for name in config.input}
        everything = list(itertools.chain.from_iterable(inputs.values()))
        made_from: dict[str, Any] = {
            "input": [source.identity for source in everything],
            "tokenizer": given.description if given else None,
        }
        if config.word_segmenter:
            made_from["word_segmenter"] = importlib.metadata.version(config.word_segmenter)
        journal.expect("made_from", made_from)
        size = _check_sources(everything, config.processes)
        if not (config.output / CONFIG_FILE).exists():
            (given or _train(config, everything, size)).save(config.output)
        tokenizer = load_tokenizer(config.output)
        progress = _encode(config, tokenizer, everything, size, journal)
        prints = {name: _fingerprint(opened) for name, opened in inputs.items()}
        return _finish(config, tokenizer, progress, prints, shows_next)


def _open_finished(config: PrepareConfig) -> Corpus:
    corpus = open_corpus(config.output)
    try:
        made_by = corpus.metadata["made_by"]
        made_with, prints = dict(made_by["settings"]), dict(made_by.get("input", {}))
    except (KeyError, TypeError, ValueError):
        raise DataError(
            f"{config.output} holds a corpus whose corpus.json does not say how it was made; "
            "choose another --output or delete it"
        ) from None
    if made_with != settings_of(config):
        raise DataError(
            f"{config.output} holds a corpus made with other settings "
            f"({difference(made_with, settings_of(config))}); choose another --output or delete it"
        )
    changed = [name for name in prints if _is_changed(config, name, prints[name])]
    path = config.vocab or config.model
    given = _given_tokenizer(config) if path and os.path.exists(path) else None
    if given and given.description != corpus.metadata["tokenizer"]:
        changed.append(str(path))
    if changed:
        raise DataError(
            f"{', '.join(changed)} changed since {config.output} was made from it; choose another "
            "--output or delete the folder"
        )
    _remove_work_files(config.output)
    print(f"{config.output} was already made with the same settings; nothing to do")
    return corpus


def _is_changed(config: PrepareConfig, name: str, fingerprint: str) -> bool:
    """Whether files differ from those a corpus was made from; deleted files do not count."""
    if _is_no_file(name) or not (os.path.exists(name) or glob.has_magic(name)):
        return False
    try:
        return _fingerprint(_open_input(config, name)) != fingerprint
    except DataError:
        return False


def _fingerprint(opened: Sequence[Source]) -> str:
    identities = json.dumps([source.identity for source in opened])
    return hashlib.sha256(identities.encode()).hexdigest()[:16]


def _given_tokenizer(config: PrepareConfig) -> Tokenizer | None:
    if config.vocab:
        return load_vocab(config.vocab, config.lowercase)
    return load_model(config.model) if config.model else None


def _is_no_file(name: str) -> bool:
    return name == sources.EMBEDDED or name.startswith(tfds.PREFIX)


def _open_input(config: PrepareConfig, name: str) -> Sequence[Source]:
    """The sources that one value of --input names."""
    if name == sources.EMBEDDED:
        return [EmbeddedSource(config.output / _EMBEDDED_TEXT)]
    if _is_no_file(name):
        return [TfdsSource(name, config.text_field)]
    inside = config.output.resolve()
    files = sources.find_files(name)
    outside = [file for file in files if inside not in file.resolve().parents]
    if not outside:
        raise DataError(
            f"--input {name} names no text outside --output {config.output}; choose another folder"
        )
    return [FileSource(file, config.text_field) for file in outside]


def _check_sources(inputs: Sequence[Source], processes: int) -> int | None:
    """Reads all files and gets other sources ready; returns the bytes of text, None if unknown."""
    files = [source for source in inputs if isinstance(source, FileSource)]
    on_disk = sum(file.bytes for file in files)
    packed = any(file.path.name.lower().endswith(".gz") for file in files)
    sizes = ((size, size) for file in files for size in file.check())
    total = sum(tracked(sizes, "checking", None if packed else on_disk))
    for source in inputs:
        if isinstance(source, TfdsSource):
            source.download()
        elif isinstance(source, EmbeddedSource):
            _extract(source, processes)
            if len(inputs) == 1:
                return source.path.stat().st_size
    return total if len(files) == len(inputs) else None


def _extract(source: EmbeddedSource, processes: int) -> None:
    if source.path.exists():
        return
    print("reading the documentation of the installed Python packages", file=sys.stderr)
    if processes == 1:
        source.extract()
        return

    def read_all(function: Callable[[Path], list[str]], paths: list[Path]) -> Iterator[list[str]]:
        sizes = [path.stat().st_size for path in paths]
        results = pool.map(function, paths, chunksize=16)
        return tracked(zip(sizes, results, strict=True), "reading", sum(sizes))

    with worker_pool(processes) as pool:
        source.extract(read_all)


def _chunks(inputs: Sequence[Source]) -> Iterator[Chunk]:
    return itertools.chain.from_iterable(source.chunks() for source in inputs)


def _train(config: PrepareConfig, inputs: Sequence[Source], size: int | None) -> Tokenizer:
    """Trains on chunks spread evenly over the input, or on its beginning if its size is unknown."""
    print("training the tokenizer", file=sys.stderr)
    budget = int(config.tokenizer_sample_mb * 1e6)
    share = min(1.0, budget / size) if size else 1.0
    texts: list[str] = []
    for index, chunk in enumerate(_chunks(inputs)):
        if math.ceil((index + 1) * share) > math.ceil(index * share):  # the first, at least
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


def _encode(
    config: PrepareConfig,
    tokenizer: Tokenizer,
    inputs: Sequence[Source],
    size: int | None,
    journal: Journal,
) -> dict[str, Any]:
    """Writes the shards; returns the final `CorpusWriter.progress`."""
    with CorpusWriter(
        config.output,
        token_dtype(tokenizer.vocab_size),
        config.heldout_fraction,
        config.max_shard_tokens,
        journal,
    ) as writer:
        first: int = writer.progress["chunk"]
        chunks = itertools.islice(_chunks(inputs), first, None)
        encoded = encode_chunks(
            chunks, config.output, config.language, config.processes, config.word_segmenter
        )
        sized = ((chunk.source_bytes, chunk) for chunk in encoded)
        done = min(first * sources.CHUNK_BYTES, size or 0)
        for chunk in tracked(sized, "encoding", size, done):
            writer.add(chunk)
        if writer.is_empty:
            raise DataError("the input holds no sentence; see what --input names")
        writer.commit()
    return writer.progress


def _finish(
    config: PrepareConfig,
    tokenizer: Tokenizer,
    progress: dict[str, Any],
    prints: dict[str, str],
    shows_next: bool,
) -> Corpus:
    """Writes the report and, last of all, corpus.json."""
    metadata = corpus_metadata(
        tokenizer.description, tokenizer.vocab_size, tokenizer.special_ids, progress["shards"]
    )
    libraries = ["numpy", "tokenizers", "sentencepiece", "sentencex"]
    if config.word_segmenter:
        metadata["word_segmenter"] = config.word_segmenter
        libraries.append(config.word_segmenter)
    corpus = Corpus(config.output, metadata)
    figures = report.measure(corpus, tokenizer, progress["duplicates"], progress["cut"])
    trained = config.vocab is None and config.model is None
    asked = (config.vocab_size or DEFAULT_VOCAB_SIZE) if trained else 0
    metadata |= {
        "heldout_unigram_entropy": figures["heldout_unigram_entropy"],
        "unknown_rate": figures["unknown_rate"],
        "duplicates": figures["duplicates"],
        "made_by": {
            "settings": settings_of(config),
            "input": prints,
            "versions": {
                "python": platform.python_version(),
                **{library: importlib.metadata.version(library) for library in libraries},
            },
        },
    }
    shown = (
        report.rows(figures, corpus),
        report.warnings(figures, tokenizer.vocab_size, asked),
        report.sample(corpus, tokenizer),
    )
    command = report.next_command(figures, corpus)
    (config.output / "report.md").write_text(report.markdown(*shown, command), encoding="utf-8")
    write_json(config.output / "corpus.json", metadata)
    _remove_work_files(config.output)
    report.show(*shown, command if shows_next else None)
    return corpus


def _remove_work_files(folder: Path) -> None:
    for name in (JOURNAL_FILE, JOURNAL_FILE + "-journal", _EMBEDDED_TEXT):
        (folder / name).unlink(missing_ok=True)


def main(arguments: Sequence[str]) -> None:
    """The command line; a mistake is one line and exit code 2."""
    from data_pipeline.command_line import fail, parse

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if arguments[:1] == ["--verify"]:
            if len(arguments) != 2:
                raise DataError("--verify takes one corpus folder and no other option")
            corpus = open_corpus(arguments[1], verify=True)
            print(f"{corpus.folder} is intact: every file matches its checksum")
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
        fail("interrupted; the same command continues after the last finished shard", code=130)


if __name__ == "__main__":
    main(sys.argv[1:])
