"""Start-up and memory of the input pipeline on corpora up to 40 billion tokens.

    python -m benchmarks.huge_corpus

Prints, for each size and kind of example, the time from opening the corpus to the first batch, at
the start and in the middle of an epoch, each on the clock and of the CPU, and the peak of the
memory that is the process's own, over these and 100 more batches each. Importing TensorFlow is not
counted.

The corpora are made in a temporary folder and take about 25 MB of disk. Every shard is a set of
files as `data_pipeline.prepare` writes them: 2**27 tokens with the boundaries of its sentences and
documents. The token files are sparse, one for each shard, and read as zeros. The boundaries are
real numbers, the same for every shard: their files are hard links to one. So every file is opened,
mapped, looked up and read as in a real corpus of that size, but the boundaries share the page
cache, and no disk is waited for.
"""

import argparse
import multiprocessing
import os
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipeline.corpus.shards import corpus_metadata, open_corpus
from data_pipeline.files import file_checksum, write_json
from data_pipeline.pretraining.batches import DataConfig, batches
from data_pipeline.pretraining.order import blocks_per_epoch
from data_pipeline.tensorflow_setup import import_tensorflow

SHARD_TOKENS = 1 << 27
CONFIGS = {
    "next_sentence": DataConfig(),
    "full_sentences": DataConfig(pairs="full_sentences"),
    "doc_sentences, packed": DataConfig(pairs="doc_sentences", packed=True),
}
BATCHES = 100


def write_huge_corpus(folder: Path, tokens: int) -> None:
    """Writes a corpus of about so many tokens, in sentences of 25 tokens, 25 in a document."""
    random = np.random.default_rng(0)
    sentences = np.cumsum(1 + random.poisson(24, SHARD_TOKENS // 25 - 10_000))
    documents = np.cumsum(random.geometric(1 / 25, len(sentences) // 25))
    documents = documents[documents < len(sentences)]
    first = {
        "sentences": np.concatenate([[0], sentences]).astype(np.uint32),
        "documents": np.concatenate([[0], documents, [len(sentences)]]).astype(np.uint32),
    }
    checksums: dict[str, str] = {}
    shards = []
    for number in range(max(1, round(tokens / sentences[-1]))):
        name = f"train-{number:05d}"
        files = {array: folder / f"{name}.{array}.npy" for array in ("tokens", *first)}
        # A new file of this size has no blocks on disk.
        np.lib.format.open_memmap(files["tokens"], "w+", np.uint16, (int(sentences[-1]),))
        for array, values in first.items():
            if number:
                os.link(folder / f"train-00000.{array}.npy", files[array])
            else:
                np.save(files[array], values)
        checksums = checksums or {array: file_checksum(path) for array, path in files.items()}
        shards.append(
            {
                "name": name,
                "documents": len(documents) + 1,
                "sentences": len(sentences),
                "tokens": int(sentences[-1]),
                "files": {
                    array: {"bytes": path.stat().st_size, "crc32": checksums[array]}
                    for array, path in files.items()
                },
            }
        )
    special_ids = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}
    tokenizer = {"fingerprint": "of the benchmark"}
    metadata = corpus_metadata(tokenizer, 30522, special_ids, {"train": shards})
    write_json(folder / "corpus.json", metadata)


class Figures(NamedTuple):
    """What was measured: seconds on the clock and of the CPU, and bytes."""

    start: tuple[float, float]
    middle: tuple[float, float]
    memory: int


def anonymous_memory() -> int:
    """Bytes of resident memory that no file is behind; mapped corpus files are not in it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    raise RuntimeError("the kernel does not tell RssAnon")


class Peak(threading.Thread):
    """Watches this process's own memory for its peak."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.bytes = 0
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(0.002):
            self.bytes = max(self.bytes, anonymous_memory())

    def finish(self) -> int:
        self._done.set()
        self.join()
        return self.bytes


def measure(folder: Path, config: DataConfig) -> Figures:
    """The figures of one corpus and one kind of example; in a process of its own."""
    import_tensorflow()
    before = anonymous_memory()
    peak = Peak()
    peak.start()
    seconds = []
    for position in (0, 0.5):
        begin = time.perf_counter(), time.process_time()
        corpus = open_corpus(folder)
        cursor = (0, int(blocks_per_epoch(corpus.split("train")) * position), 0)
        stream = batches(
            corpus,
            config,
            batch_size=256,
            sequence_length=128,
            max_predictions=20,
            seed=0,
            cursor=cursor,
        )
        next(stream)
        seconds.append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
        for _ in range(BATCHES):
            next(stream)
        del stream
    return Figures(*seconds, peak.finish() - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--billions", type=float, nargs="+", default=[0.4, 4, 40])
    arguments = parser.parse_args()
    print(
        "| tokens | shards | examples | first batch (CPU) | in the middle (CPU) | "
        "peak memory of its own |"
    )
    print("|---|---|---|---|---|---|")
    for billions in arguments.billions:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_huge_corpus(folder, round(billions * 1e9))
            split = open_corpus(folder, verify=False).split("train")
            for kind, config in CONFIGS.items():
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                    figures = process.submit(measure, folder, config).result()
                print(
                    f"| {split.tokens / 1e9:.2f} billion | {len(split.shards)} | {kind} | "
                    f"{figures.start[0]:.2f} s ({figures.start[1]:.2f} s) | "
                    f"{figures.middle[0]:.2f} s ({figures.middle[1]:.2f} s) | "
                    f"{figures.memory / 2**20:.0f} MB |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
