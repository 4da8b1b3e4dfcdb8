"""The report on a corpus that was made: figures, warnings and a look at its sentences."""

import shlex
from typing import Any

import numpy as np

from data_pipeline.corpus.settings import DEFAULT_VOCAB_SIZE
from data_pipeline.corpus.shards import Corpus, Shard
from data_pipeline.corpus.writing import MAX_DOCUMENT_TOKENS
from data_pipeline.tokenization.interface import Tokenizer

_SAMPLED_SENTENCES = 6
_SHORT_CORPUS_TOKENS = 1_000_000
_MAX_UNKNOWN_RATE = 0.01
_BLOCK = 1 << 22


def measure(corpus: Corpus, tokenizer: Tokenizer, duplicates: int, cut: int) -> dict[str, Any]:
    """The figures of the report, read from the shards block by block.

    Returns:
      Counts of `documents`, `heldout_documents`, `sentences` and `tokens`; means
      `sentences_per_document` and `tokens_per_sentence`; `unknown_rate` (share of tokens),
      `one_sentence_rate` (share of documents), `longest_document` (tokens),
      `heldout_one_sentence` (documents), `duplicates` (documents left out), `cut` (documents cut in
      parts, each of which counts as a document), and `heldout_unigram_entropy` in nats, None
      without held-out tokens: the loss of a model that learned the frequencies of the held-out
      tokens and nothing else.
    """
    splits = {name: corpus.split(name) for name in ("train", "heldout")}
    lengths = {name: [_lengths(shard) for shard in split.shards] for name, split in splits.items()}
    one_sentence = {name: sum(single for single, _ in found) for name, found in lengths.items()}
    documents = sum(split.documents for split in splits.values())
    sentences = sum(split.sentences for split in splits.values())
    tokens = sum(split.tokens for split in splits.values())
    counts = {
        name: sum(
            (_id_counts(shard, corpus.vocab_size) for shard in split.shards),
            np.zeros(corpus.vocab_size, np.int64),
        )
        for name, split in splits.items()
    }
    total = counts["train"] + counts["heldout"]
    return {
        "documents": documents,
        "heldout_documents": splits["heldout"].documents,
        "sentences": sentences,
        "tokens": tokens,
        "sentences_per_document": sentences / max(documents, 1),
        "tokens_per_sentence": tokens / max(sentences, 1),
        "unknown_rate": float(total[tokenizer.special_ids["unk"]] / max(tokens, 1)),
        "one_sentence_rate": sum(one_sentence.values()) / max(documents, 1),
        "heldout_one_sentence": one_sentence["heldout"],
        "longest_document": max(longest for found in lengths.values() for _, longest in found),
        "duplicates": duplicates,
        "cut": cut,
        "heldout_unigram_entropy": _entropy(counts["heldout"]),
    }


def _lengths(shard: Shard) -> tuple[int, int]:
    """Number of documents of one sentence, and tokens of the longest document."""
    documents = _read(shard.documents)
    tokens = np.diff(_read(shard.sentences)[documents])
    return int(np.count_nonzero(np.diff(documents) == 1)), int(tokens.max())


def _id_counts(shard: Shard, vocab_size: int) -> np.ndarray:
    """How often each id occurs, int64 [vocab_size]."""
    counts = np.zeros(vocab_size, np.int64)
    for start in range(0, len(shard.tokens), _BLOCK):
        counts += np.bincount(_read(shard.tokens, start, _BLOCK), minlength=vocab_size)
    return counts


def _read(array: np.ndarray, start: int = 0, count: int = -1) -> np.ndarray:
    """A copy of a part of a mapped array that leaves no page of the mapping in memory."""
    assert isinstance(array, np.memmap)
    assert array.filename is not None
    offset = array.offset + start * array.itemsize
    return np.fromfile(array.filename, array.dtype, count, offset=offset)


def _entropy(counts: np.ndarray) -> float | None:
    """Entropy in nats of the distribution that the counts describe."""
    if not counts.any():
        return None
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())


def warnings(figures: dict[str, Any], vocab_size: int, asked_vocab_size: int | None) -> list[str]:
    """What would make training suffer, with the remedy."""
    found = []
    if figures["documents"] < 2:
        found.append(
            "there is only one document, so next-sentence pairs cannot be made and nothing can be "
            "held out: put a blank line between documents, or one document in each file"
        )
    elif figures["longest_document"] > 0.5 * figures["tokens"]:
        found.append(
            "one document holds more than half of all tokens: are the blank lines between its "
            "documents missing?"
        )
    if figures["documents"] >= 2 and figures["heldout_documents"] < 2:
        found.append(
            f"the held-out split has {figures['heldout_documents']} document(s), too few to "
            "evaluate on: prepare again with a larger --heldout-fraction"
        )
    if figures["cut"]:
        found.append(
            f"{figures['cut']:,} document(s) of more than {MAX_DOCUMENT_TOKENS:,} tokens were cut "
            "in parts, which count as documents: are blank lines missing?"
        )
    if figures["one_sentence_rate"] > 0.5:
        found.append(
            f"{figures['one_sentence_rate']:.0%} of the documents have one sentence only, so few "
            "true next-sentence pairs exist: is there a blank line after every line?"
        )
    if figures["unknown_rate"] > _MAX_UNKNOWN_RATE:
        found.append(
            f"{figures['unknown_rate']:.1%} of the tokens are unknown: the vocabulary is not for "
            "this language or too small"
        )
    if figures["tokens"] < _SHORT_CORPUS_TOKENS:
        found.append(
            f"{figures['tokens']:,} tokens are little to learn from; even a small model wants "
            "several million"
        )
    if asked_vocab_size is not None and vocab_size < asked_vocab_size:
        found.append(
            f"the text yields {vocab_size:,} pieces only, not the {asked_vocab_size:,} asked for"
        )
    return found


def next_command(figures: dict[str, Any], corpus: Corpus) -> str:
    """The command that trains on the corpus, with the options without which it would refuse."""
    command = f"python run_pretrain.py tiny --corpus {shlex.quote(str(corpus.folder))}"
    if corpus.vocab_size != DEFAULT_VOCAB_SIZE:
        command += f" --model.vocab-size {corpus.vocab_size}"
    heldout = figures["heldout_documents"]
    if figures["documents"] - heldout >= 2:
        can_evaluate = heldout >= 2 and figures["heldout_one_sentence"] < heldout
    else:
        command += " --data.pairs doc_sentences"
        can_evaluate = heldout >= 1
    return command if can_evaluate else command + " --evaluation-examples 0"


def rows(figures: dict[str, Any], corpus: Corpus) -> list[tuple[str, str]]:
    """The report's table: what, and how much."""
    tokenizer = corpus.metadata["tokenizer"]
    entropy = figures["heldout_unigram_entropy"]
    case = {True: ", lower-cased", False: ", cased", None: ""}[tokenizer["lowercase"]]
    return [
        (
            "documents",
            f"{figures['documents']:,}, of which {figures['heldout_documents']:,} held out",
        ),
        ("duplicate documents left out", f"{figures['duplicates']:,}"),
        ("documents of one sentence", f"{figures['one_sentence_rate']:.1%}"),
        ("sentences", f"{figures['sentences']:,}"),
        ("sentences per document", f"{figures['sentences_per_document']:.1f}"),
        ("tokens", f"{figures['tokens']:,}"),
        ("tokens per sentence", f"{figures['tokens_per_sentence']:.1f}"),
        ("longest document", f"{figures['longest_document']:,} tokens"),
        ("vocabulary", f"{corpus.vocab_size:,} pieces, {tokenizer['kind']}{case}"),
        *(
            [("words", f"found by {segmenter}")]
            if (segmenter := corpus.metadata.get("word_segmenter"))
            else []
        ),
        ("unknown tokens", f"{figures['unknown_rate']:.3%}"),
        (
            "held-out unigram entropy",
            "none held out" if entropy is None else f"{entropy:.3f} nats",
        ),
    ]


def sample(corpus: Corpus, tokenizer: Tokenizer) -> list[str]:
    """Some sentences of the first training shard as the model will see them."""
    shards = corpus.split("train").shards or corpus.split("heldout").shards
    if not shards:
        return []
    shard = shards[0]
    count = len(shard.sentences) - 1
    chosen = np.unique(np.linspace(0, count - 1, _SAMPLED_SENTENCES).astype(int))
    return [
        " ".join(
            tokenizer.id_to_piece(int(token))
            for token in shard.tokens[shard.sentences[i] : shard.sentences[i + 1]][:60]
        )
        for i in chosen
    ]


def markdown(
    table: list[tuple[str, str]], warned: list[str], samples: list[str], command: str
) -> str:
    """The report as `report.md` holds it."""
    lines = ["# Corpus report", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in table]
    if warned:
        lines += ["", "## Warnings", "", *(f"- WARNING: {warning}" for warning in warned)]
    lines += ["", "## Tokenized sentences", "", *(f"    {sentence}" for sentence in samples)]
    lines += ["", "## Next", "", f"    {command}", ""]
    return "\n".join(lines)


def show(
    table: list[tuple[str, str]], warned: list[str], samples: list[str], command: str | None
) -> None:
    """Prints the report, with the command to type next if there is one."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    grid = Table(show_header=False, title="Corpus report", title_justify="left")
    for name, value in table:
        grid.add_row(name, value)
    console.print(grid)
    console.print("Tokenized sentences, for a look:")
    for sentence in samples:
        console.print("  " + sentence, no_wrap=True, overflow="ellipsis")
    for warning in warned:
        console.print(f"WARNING: {warning}", soft_wrap=True, style="yellow")
    if command:
        console.print(f"\nNext: {command}", soft_wrap=True)
