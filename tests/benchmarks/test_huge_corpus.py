"""A corpus of 40 billion tokens costs what a small one does: memory and what is read."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.huge_corpus import CONFIGS, write_huge_corpus
from data_pipeline.corpus.shards import open_corpus

ROOT = Path(__file__).parents[2]
HUGE = 40_000_000_000
# Of Python's objects that describe a shard: its entry in corpus.json and three mapped arrays.
BYTES_PER_SHARD = 20_000

# Without tf.data, whose threads tracemalloc cannot follow; a process of its own, because such
# threads of other tests may still run.
PROGRAM = """
import gc, json, sys, tracemalloc
from itertools import islice
from benchmarks.huge_corpus import CONFIGS
from data_pipeline.pretraining import batches as pretrain
from data_pipeline.corpus import shards
from data_pipeline.pretraining.order import blocks_per_epoch

def stream(plans, fill, workers):
    return (fill(examples) for examples, cursor in plans)

def peak_memory(folder, config):
    "Bytes that Python and NumPy held at most, from the opening to a few batches."
    gc.collect()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    corpus = shards.open_corpus(folder)
    found = pretrain.batches(
        corpus, config, batch_size=64, sequence_length=128, max_predictions=20, seed=0,
        cursor=(1, blocks_per_epoch(corpus.split("train")) // 2, 0),
    )
    assert len(list(islice(found, 3))) == 3
    return tracemalloc.get_traced_memory()[1] - before

def read_whole(path):
    raise AssertionError(f"{path} is read from beginning to end")

pretrain.stream = stream
tracemalloc.start()
small, huge = sys.argv[1:]
for config in CONFIGS.values():
    peak_memory(small, config)  # what is made once
peaks = {kind: [peak_memory(small, config)] for kind, config in CONFIGS.items()}
shards.file_checksum = read_whole
for kind, config in CONFIGS.items():
    peaks[kind].append(peak_memory(huge, config))
print(json.dumps(peaks))
"""


def test_memory_does_not_grow_with_the_corpus(tmp_path):
    corpora = [tmp_path / "small", tmp_path / "huge"]
    for folder, tokens in zip(corpora, (1, HUGE), strict=True):
        folder.mkdir()
        write_huge_corpus(folder, tokens)
    split = open_corpus(corpora[1], verify=False).split("train")
    assert split.tokens > 0.99 * HUGE
    # A number of four bytes for every tenth document would be noticed.
    assert 4 * split.documents / 10 > 2 * BYTES_PER_SHARD * len(split.shards)
    command = [sys.executable, "-c", PROGRAM, *map(str, corpora)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    peaks = json.loads(done.stdout)
    assert peaks.keys() == CONFIGS.keys()
    for kind, (small, huge) in peaks.items():
        limit = small + BYTES_PER_SHARD * len(split.shards) + (2 << 20)
        assert huge < limit, f"{kind}: {small:,} and {huge:,} bytes"
    # Sparse, but whoever copies or counts the folder of the tests would not know.
    shutil.rmtree(corpora[1])
