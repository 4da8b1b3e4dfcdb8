"""How fast `python -m data_pipeline.prepare` is, and how much memory its processes take.

    python -m benchmarks.prepare --megabytes 50 500

Makes files of the sizes asked for by repeating a text, each copy marked so that its documents are
no duplicates, prepares each with the command a person would type, and prints one line a size: wall
time of the whole command (interpreter start, checks, tokenizer, encoding, report), megabytes a
second, and the largest resident set of any one of its processes.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from data_pipeline.text.embedded import embedded_documents
from data_pipeline.text.sentences import splitter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--text", type=Path, help="UTF-8 text; default: the embedded corpus")
    parser.add_argument("--megabytes", type=float, nargs="+", default=[9.5])
    parser.add_argument("--split-first", metavar="LANGUAGE", help="write one sentence on each line")
    parser.add_argument("options", nargs="*", help="options of the command, after --")
    arguments = parser.parse_args()
    text = (
        arguments.text.read_text("utf-8") if arguments.text else "\n\n".join(embedded_documents())
    )
    if arguments.split_first:
        split = splitter(arguments.split_first)
        text = "\n".join("\n".join(split(line)) for line in text.split("\n"))
    with tempfile.TemporaryDirectory() as folder:
        for size in arguments.megabytes:
            measure(text, size, arguments.options, Path(folder))


def measure(text: str, megabytes: float, options: Sequence[str], folder: Path) -> None:
    """Prepares `megabytes` (10^6 bytes) of `text` and prints the figures."""
    source, corpus = folder / "text.txt", folder / "corpus"
    write_copies(text, int(megabytes * 1e6), source)
    command = [
        *(sys.executable, "-m", "data_pipeline.prepare", "--input", str(source)),
        *("--output", str(corpus), *options),
    ]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = largest_process(process)
    seconds = time.perf_counter() - start
    if process.returncode:
        sys.exit(process.returncode)
    actual = source.stat().st_size / 1e6
    print(
        f"{actual:.1f} MB: {seconds:.1f} s, {actual / seconds:.2f} MB/s, "
        f"largest process {peak / 1e6:.0f} MB",
        flush=True,
    )
    shutil.rmtree(corpus)


def write_copies(text: str, size: int, path: Path) -> None:
    """Writes about `size` bytes of whole documents, each led by the number of its copy."""
    documents = [document for document in text.split("\n\n") if document.strip()]
    written = copy = 0
    with open(path, "wb") as file:
        while written < size:
            copy += 1
            for document in documents:
                written += file.write(f"Copy {copy}.\n{document}\n\n".encode())
                if written >= size:
                    break


def largest_process(process: subprocess.Popen) -> int:
    """Waits for a process; the largest resident set of it and its children, sampled, in bytes."""
    peak = 0
    parent = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            for member in (parent, *parent.children(recursive=True)):
                peak = max(peak, member.memory_info().rss)
        except psutil.NoSuchProcess:
            pass
        time.sleep(0.02)
    return peak


if __name__ == "__main__":
    main()
