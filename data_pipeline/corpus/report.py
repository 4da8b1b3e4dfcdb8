"""The report on a new corpus: figures, warnings and a few of its sentences."""

import shlex
from typing import Any

import numpy as np

from data_pipeline.corpus.settings import DEFAULT_VOCAB_SIZE
from data_pipeline.corpus.shards import SPLITS, Corpus
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
      `heldout_one_sentence` (documents), `duplicates` (documents left out), `cut` (documents cut
      into parts, each of which counts as a document), and `heldout_unigram_entropy` in nats, None
      without held-out tokens: the loss of a model that learned the frequencies of the held-out
      tokens and nothing else.
    """
    splits = {name: corpus.split(name) for name in SPLITS}
    counts = {name: np.zeros(corpus.vocab_size, np.int64) for name in SPLITS}  # of each token id
    one_sentence = dict.fromkeys(SPLITS, 0)
    longest = 0
    for name, split in splits.items():
        for shard in split.shards:
            first_sentence = _read(shard.documents)
            lengths = np.diff(_read(shard.sentences)[first_sentence])
            longest = max(longest, int(lengths.max()))
            one_sentence[name] += int(np.count_nonzero(np.diff(first_sentence) == 1))
            for start in range(0, len(shard.tokens), _BLOCK):
                tokens = _read(shard.tokens, start, _BLOCK)
                counts[name] += np.bincount(tokens, minlength=corpus.vocab_size)
    documents, sentences, total = (
        sum(getattr(split, name) for split in splits.values())
        for name in ("documents", "sentences", "tokens")
    )
    unknown = sum(count[tokenizer.special_ids["unk"]] for count in counts.values())
    share = counts["heldout"][counts["heldout"] > 0] / max(splits["heldout"].tokens, 1)
    return {
        "documents": documents,
        "heldout_documents": splits["heldout"].documents,
        "sentences": sentences,
        "tokens": total,
        "sentences_per_document": sentences / max(documents, 1),
        "tokens_per_sentence": total / max(sentences, 1),
        "unknown_rate": float(unknown / max(total, 1)),
        "one_sentence_rate": sum(one_sentence.values()) / max(documents, 1),
        "heldout_one_sentence": one_sentence["heldout"],
        "longest_document": longest,
        "duplicates": duplicates,
        "cut": cut,
        "heldout_unigram_entropy": float(-(share * np.log(share)).sum()) if len(share) else None,
    }


def _read(array: np.ndarray, start: int = 0, count: int = -1) -> np.ndarray:
    """A copy of part of a mapped array, which leaves no page of the mapping in memory."""
    assert isinstance(array, np.memmap)
    assert array.filename is not None
    offset = array.offset + start * array.itemsize
    return np.fromfile(array.filename, array.dtype, count, offset=offset)


def warnings(figures: dict[str, Any], vocab_size: int, asked_vocab_size: int) -> list[str]:
    """What would harm training, with the remedy; `asked_vocab_size` is 0 for a given tokenizer."""
    documents, tokens = figures["documents"], figures["tokens"]
    heldout, one_sentence = figures["heldout_documents"], figures["one_sentence_rate"]
    found = [
        (
            documents < 2,
            "there is only one document, so next-sentence pairs cannot be made and nothing can be "
            "held out: put a blank line between documents, or one document in each file",
        ),
        (
            documents >= 2 and figures["longest_document"] > 0.5 * tokens,
            "one document holds more than half of all tokens: are blank lines missing in it?",
        ),
        (
            documents >= 2 and heldout < 2,
            f"the held-out split has {heldout} document(s), too few to evaluate on: prepare again "
            "with a larger --heldout-fraction",
        ),
        (
            figures["cut"],
            f"{figures['cut']:,} document(s) of more than {MAX_DOCUMENT_TOKENS:,} tokens were cut "
            "into parts, which count as documents: are blank lines missing?",
        ),
        (
            one_sentence > 0.5,
            f"{one_sentence:.0%} of the documents have only one sentence, so few true "
            "next-sentence pairs exist: is there a blank line after every line?",
        ),
        (
            figures["unknown_rate"] > _MAX_UNKNOWN_RATE,
            f"{figures['unknown_rate']:.1%} of the tokens are unknown: the vocabulary is too small "
            "or not for this language",
        ),
        (
            tokens < _SHORT_CORPUS_TOKENS,
            f"{tokens:,} tokens are little to learn from: even a small model wants several million",
        ),
        (
            vocab_size < asked_vocab_size,
            f"the text yields only {vocab_size:,} pieces, not the {asked_vocab_size:,} asked for",
        ),
    ]
    return [warning for applies, warning in found if applies]


def next_command(figures: dict[str, Any], corpus: Corpus) -> str:
    """The command that trains on the corpus, with the options that this corpus requires."""
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


def rows(figures: dict[str, Any], corpus: Corpus) -> dict[str, str]:
    """The report's table: what, and how much."""
    tokenizer = corpus.metadata["tokenizer"]
    case = {True: ", lower-cased", False: ", cased", None: ""}[tokenizer["lowercase"]]
    segmenter = corpus.metadata.get("word_segmenter")
    entropy = figures["heldout_unigram_entropy"]
    heldout = figures["heldout_documents"]
    table = {
        "documents": f"{figures['documents']:,}, of which {heldout:,} held out",
        "duplicate documents left out": f"{figures['duplicates']:,}",
        "documents of one sentence": f"{figures['one_sentence_rate']:.1%}",
        "sentences": f"{figures['sentences']:,}",
        "sentences per document": f"{figures['sentences_per_document']:.1f}",
        "tokens": f"{figures['tokens']:,}",
        "tokens per sentence": f"{figures['tokens_per_sentence']:.1f}",
        "longest document": f"{figures['longest_document']:,} tokens",
        "vocabulary": f"{corpus.vocab_size:,} pieces, {tokenizer['kind']}{case}",
        "words": f"found by {segmenter}",
        "unknown tokens": f"{figures['unknown_rate']:.3%}",
        "held-out unigram entropy": "none held out" if entropy is None else f"{entropy:.3f} nats",
    }
    if segmenter is None:
        del table["words"]
    return table


def sample(corpus: Corpus, tokenizer: Tokenizer) -> list[str]:
    """Some sentences of the first training shard as the model will see them."""
    shards = corpus.split("train").shards or corpus.split("heldout").shards
    if not shards:
        return []
    shard = shards[0]
    count = len(shard.sentences) - 1
    samples = []
    for i in np.unique(np.linspace(0, count - 1, _SAMPLED_SENTENCES).astype(int)):
        ids = shard.tokens[shard.sentences[i] : shard.sentences[i + 1]][:60]
        samples.append(" ".join(map(tokenizer.id_to_piece, ids.tolist())))
    return samples


def markdown(table: dict[str, str], warned: list[str], samples: list[str], command: str) -> str:
    """The text of `report.md`."""
    lines = ["# Corpus report", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in table.items()]
    if warned:
        lines += ["", "## Warnings", "", *(f"- WARNING: {warning}" for warning in warned)]
    lines += ["", "## Tokenized sentences", "", *(f"    {sentence}" for sentence in samples)]
    lines += ["", "## Next", "", f"    {command}", ""]
    return "\n".join(lines)


def show(table: dict[str, str], warned: list[str], samples: list[str], command: str | None) -> None:
    """Prints the report, with the command to type next if there is one."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    grid = Table(show_header=False, title="Corpus report", title_justify="left")
    for name, value in table.items():
        grid.add_row(name, value)
    console.print(grid)
    console.print("Tokenized sentences, for a look:")
    for sentence in samples:
        console.print("  " + sentence, no_wrap=True, overflow="ellipsis")
    for warning in warned:
        console.print(f"WARNING: {warning}", soft_wrap=True, style="yellow")
    if command:
        console.print(f"\nNext: {command}", soft_wrap=True)
