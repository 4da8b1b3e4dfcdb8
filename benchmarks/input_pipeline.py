"""Speed of the pre-training input pipeline.

    python -m benchmarks.input_pipeline                   # a synthetic corpus of 100 million tokens
    python -m benchmarks.input_pipeline --corpus DIR      # your own

Prints the time to the first batch, from the start and from deep inside an epoch, rows (of a batch)
and tokens without padding per second, and the share of padding. `taskset -c 0,1` before it uses two
cores.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import get_args

import numpy as np

from data_pipeline.corpus.shards import Corpus, ShardWriter, corpus_metadata, open_corpus
from data_pipeline.files import write_json
from data_pipeline.pretraining.batches import DataConfig, batches
from data_pipeline.pretraining.config import Masking
from data_pipeline.pretraining.order import blocks_per_epoch
from data_pipeline.tensorflow_setup import import_tensorflow

VOCAB_SIZE = 30522
TOKENS_PER_SHARD = 50_000_000
WINDOWS = 7


def write_synthetic_corpus(folder: Path, tokens: int) -> None:
    """Writes documents of 25 sentences of 20 tokens on average, all ids uniform."""
    random = np.random.default_rng(0)
    shards = []
    written = 0
    while written < tokens:
        writer = ShardWriter(folder, f"train-{len(shards):05d}", np.dtype(np.uint16))
        room = min(TOKENS_PER_SHARD, tokens - written)
        while writer.tokens < room:
            lengths = 1 + random.poisson(19, random.geometric(1 / 25))
            writer.add(random.integers(5, VOCAB_SIZE, lengths.sum(), np.uint16), lengths)
            writer.end_document()
        written += writer.tokens
        shards.append(writer.finish())
    special_ids = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
    tokenizer = {"fingerprint": "of the benchmark"}
    metadata = corpus_metadata(tokenizer, VOCAB_SIZE, special_ids, {"train": shards})
    write_json(folder / "corpus.json", metadata)


def measure(corpus: Corpus, arguments: argparse.Namespace, config: DataConfig) -> None:
    """Prints the figures of one configuration."""
    starts_word = np.random.default_rng(1).random(corpus.vocab_size) < 0.75
    blocks = blocks_per_epoch(corpus.split("train"))

    def stream(cursor=(0, 0, 0)):
        return batches(
            corpus,
            config,
            batch_size=arguments.batch_size,
            sequence_length=arguments.sequence_length,
            max_predictions=arguments.max_predictions,
            seed=0,
            cursor=cursor,
            starts_word=starts_word,
            workers=arguments.workers,
        )

    def first_batch(cursor):
        begin = time.perf_counter()
        next(stream(cursor))
        return time.perf_counter() - begin

    print(f"{config.pairs}{', packed' * config.packed}, masking {config.masking}:")
    print(f"  first batch: {first_batch((0, 0, 0)):.2f} s")
    print(f"  first batch in the middle of epoch 3: {first_batch((3, blocks // 2, 100)):.2f} s")
    iterator = stream()
    for _ in range(50):
        next(iterator)
    rates, cpu, tokens = [], [], 0
    for _ in range(WINDOWS):
        begin, begin_cpu = time.perf_counter(), time.process_time()
        for _ in range(arguments.window):
            tokens += np.count_nonzero(next(iterator)["attention_mask"])
        rows = arguments.window * arguments.batch_size
        rates.append(rows / (time.perf_counter() - begin))
        cpu.append((time.process_time() - begin_cpu) / rows)
    tokens_per_row = tokens / (WINDOWS * rows)
    print(
        f"  rows/s: median {statistics.median(rates):,.0f}, lowest {min(rates):,.0f}, highest "
        f"{max(rates):,.0f} ({WINDOWS} windows of {arguments.window} batches); CPU time "
        f"{1e6 * statistics.median(cpu):.1f} µs a row\n"
        f"  padding: {1 - tokens_per_row / arguments.sequence_length:.2%}; tokens/s: "
        f"{statistics.median(rates) * tokens_per_row:,.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", help="a corpus folder; a synthetic one is written by default")
    parser.add_argument("--tokens", type=int, default=100_000_000, help="size of the synthetic one")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--sequence-length", type=int, default=128)
    parser.add_argument("--max-predictions", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--window", type=int, default=300, help="batches in a window")
    arguments = parser.parse_args()

    begin = time.perf_counter()
    import_tensorflow()

    print(f"import of TensorFlow: {time.perf_counter() - begin:.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        if arguments.corpus is None:
            write_synthetic_corpus(Path(folder), arguments.tokens)
        corpus = open_corpus(arguments.corpus or folder)
        split = corpus.split("train")
        print(
            f"{split.tokens:,} tokens, {split.sentences:,} sentences, {split.documents:,} "
            f"documents in {len(split.shards)} shards; {blocks_per_epoch(split)} blocks an epoch"
        )
        for masking in get_args(Masking):
            measure(corpus, arguments, DataConfig(masking=masking))
        for packed in (False, True):
            measure(corpus, arguments, DataConfig(pairs="doc_sentences", packed=packed))


if __name__ == "__main__":
    main()
