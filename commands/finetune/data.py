"""Reads and checks the data of a fine-tuning: examples, features, and the notes about them."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from bert_jax.errors import UserError
from bert_jax.tasks.task import Encoding, Task, resolve
from configs.finetune import FinetuneConfig
from data_pipeline.errors import DataError
from data_pipeline.finetune.buckets import fitted_boundaries
from data_pipeline.finetune.features import Feature, Features
from data_pipeline.finetune.tables import NoColumnError, split_source, suffix_of
from data_pipeline.tokenization.interface import Tokenizer

SHOWN = 5  # skipped rows that are listed; the others are only counted
# Positions of padding that one more batch length must save to be worth its compilation:
# docs/decisions/fine-tuning-speed.md.
_CPU_PRICE, _ACCELERATOR_PRICE = 10_000, 1_000_000


class Split(NamedTuple):
    """The examples of one file, `source`, and the features that the model is given."""

    source: str
    examples: Sequence[Any]
    features: Features

    def fingerprint(self) -> str:
        """SHA-256 of the features and examples; it does not depend on where the file is."""
        digest = hashlib.sha256(self.features.fingerprint().encode())
        path = repr(split_source(self.source)[0])[:-1]  # without the closing quotation mark
        for example in self.examples:
            digest.update(repr(example).replace(f"place={path}", "place=").encode())
        return digest.hexdigest()


class Data(NamedTuple):
    """All data of a fine-tuning; `labels` are the names of the classes."""

    labels: tuple[str, ...]
    train: Split
    dev: Split
    test: Split | None


def load_data(
    task: Task[Any], config: FinetuneConfig, tokenizer: Tokenizer, say: Callable[[str], None]
) -> Data:
    """Reads and checks every file, and says what is in them."""
    sources = {
        "train": resolve(task, "train", config.data, config.train),
        "dev": resolve(task, "dev", config.data, config.dev),
    }
    if sources["dev"] == sources["train"]:
        say("train and dev are the same file: the scores tell nothing about other texts")
    if config.test:
        sources["test"] = config.test
    examples, unlabelled = {}, {}
    for name, source in sources.items():
        try:
            found = task.read(source)
        except NoColumnError as error:
            if not task.column_options:
                raise
            hint = f"{error}; say which it is: {task.column_hint(error.column)}"
            if suffix_of(source) in (".tsv", ".txt", ".csv"):
                hint += "; a file without a header needs all: --columns.header NAME NAME ..."
            raise UserError(hint) from None
        if name != "test":
            if found.unlabelled:
                has_option = "label" in task.column_options
                hint = "; are they in another column? --columns.label NAME" if has_option else ""
                raise UserError(f"{found.unlabelled} (--{name} needs labels{hint})")
            found = found.usable()
        rows = found.rows
        unlabelled[name] = found.unlabelled or f"{source}: none of its examples can be scored"
        if name == "train" and config.train_examples:
            rows = rows[: config.train_examples]
        say_skipped(source, found.skipped, say)
        if not rows:
            why = f" that can be used ({found.skipped[0]})" if found.skipped else ""
            raise UserError(f"{source} holds no example{why}; give another --{name}")
        examples[name] = rows
        if found.note:
            say(f"{source}: {found.note}")
    try:
        labels = task.labels_of(examples["train"])
    except DataError as error:
        if not config.train_examples:
            raise
        raise UserError(
            f"{error} (of the first {config.train_examples:,} rows: --train-examples)"
        ) from None
    splits = {}
    for name, rows in examples.items():
        try:
            task.check(rows, labels)
        except DataError as error:
            raise UserError(f"in --{name}: {error}") from None
        weights = _class_weights(task, config, rows, labels) if name == "train" else None
        how = Encoding(tokenizer, config.sequence_length, labels, weights, name == "train")
        features = task.features(rows, how)
        if not features.rows:
            raise UserError(f"{sources[name]}: none of its {len(rows):,} examples can be used")
        splits[name] = Split(sources[name], rows, features)
        judged = task.count_judged(rows, features)
        if not judged and name != "test":
            raise UserError(f"{unlabelled[name]} (--{name} needs labels)")
        say(_described(name, splits[name], config.sequence_length))
        if not judged:
            say(f"  {unlabelled[name]}; predicted, not scored")
        elif judged < len(rows) and name != "train":
            say(f"  {len(rows) - judged:,} of them cannot be scored, only predicted")
        for note in features.notes:
            say(f"  {note}")
    if counts := task.class_counts(examples["train"], labels):
        say(_balance(counts))
    for name, scores in task.baselines(examples["dev"]).items():
        shown = ", ".join(f"{score} {value:.4f}" for score, value in scores.items())
        say(f"dev by {name}: {shown}")
    return Data(labels, splits["train"], splits["dev"], splits.get("test"))


def length_boundaries(rows: Sequence[Feature], config: FinetuneConfig) -> tuple[int, ...]:
    """The batch lengths that cost least on this kind of device, see `fitted_boundaries`."""
    lengths = np.array([row.length for row in rows])
    sequences = [row.tokens["input_ids"].size // row.length for row in rows]  # several for choices
    return fitted_boundaries(
        np.repeat(lengths, sequences),
        config.sequence_length,
        epochs=config.epochs,
        price=_CPU_PRICE if jax.default_backend() == "cpu" else _ACCELERATOR_PRICE,
    )


def say_skipped(source: str, skipped: Sequence[str], say: Callable[[str], None]) -> None:
    """Counts the rows, or parts of them, that are left out, and lists the first."""
    if not skipped:
        return
    say(f"{source}: {len(skipped):,} left out")
    for line in skipped[:SHOWN]:
        say(f"  {line}")
    if len(skipped) > SHOWN:
        say(f"  and {len(skipped) - SHOWN:,} more")


def _described(name: str, split: Split, sequence_length: int) -> str:
    features = split.features
    text = f"{name + ':':<6} {len(split.examples):,} examples of {split.source}"
    if len(features.rows) != len(split.examples):
        text += f", {len(features.rows):,} features"
    if features.cut:
        share = features.cut / len(split.examples)
        text += (
            f"; {features.cut:,} ({share:.1%}) are longer than {sequence_length} tokens and are "
            "cut: --sequence-length"
        )
    return text


def _balance(counts: dict[str, int]) -> str:
    total = max(sum(counts.values()), 1)
    shown = sorted(counts.items(), key=lambda item: -item[1])
    text = ", ".join(f"{label} {count / total:.1%}" for label, count in shown[:12])
    more = f" and {len(shown) - 12} more" if len(shown) > 12 else ""
    return f"classes: {text}{more}"


def _class_weights(
    task: Task[Any], config: FinetuneConfig, examples: Sequence[Any], labels: tuple[str, ...]
) -> list[float] | None:
    """One over the frequency of each class, scaled so that the mean over the examples is 1."""
    if config.class_weights == "none":
        return None
    counts = task.class_counts(examples, labels)
    if counts is None:
        raise UserError(f"class_weights is balanced, but {task.name} has no classes; leave it out")
    total = sum(counts.values())
    return [total / (len(labels) * max(counts[label], 1)) for label in labels]
