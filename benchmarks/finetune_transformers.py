"""The peer of `benchmarks.finetune`: a fine-tuning with `transformers` and PyTorch.

Reads the work from a JSON file and writes what it found beside it; imports nothing of bert_jax.
Written as its users do it: sequences of about the same length share a batch that is padded to the
longest, fused AdamW without decay of biases and LayerNorm, the linear schedule.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.trainer_pt_utils import get_length_grouped_indices

from benchmarks.step_transformers import fused_adamw

IGNORED = -100  # label of tokens that have none
OUTSIDE = 0  # class of a word that the model is not shown: one without a piece, or cut off


def encoded(tokenizer: Any, work: dict[str, Any], split: str) -> list[dict[str, Any]]:
    """The inputs of each example, with `labels`.

    Of words only the first piece has a label; `word_ids` is the word of each piece.
    """
    rows = []
    for texts, label in work[split]:
        words = work["kind"] == "tag"
        given = [texts] if words else texts
        inputs = tokenizer(
            *given, is_split_into_words=words, truncation=True, max_length=work["sequence_length"]
        )
        row = dict(inputs)
        if words:
            ids = inputs.word_ids()
            first = [word is not None and word not in ids[:at] for at, word in enumerate(ids)]
            pairs = list(zip(ids, first, strict=True))
            row["labels"] = [label[word] if is_first else IGNORED for word, is_first in pairs]
            row["word_ids"], row["words"] = ids, len(texts)
        else:
            row["labels"] = label
        rows.append(row)
    return rows


def batch_of(tokenizer: Any, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Some rows as tensors, padded to the longest."""
    names = set(tokenizer.model_input_names)
    inputs = [{name: row[name] for name in row if name in names} for row in rows]
    batch = dict(tokenizer.pad(inputs, return_tensors="pt"))
    labels = [row["labels"] for row in rows]
    if isinstance(labels[0], list):
        longest = batch["input_ids"].shape[1]
        labels = [label + [IGNORED] * (longest - len(label)) for label in labels]
    return batch | {"labels": torch.tensor(labels)}


@torch.inference_mode()
def predictions(
    model: Any, tokenizer: Any, rows: list[dict[str, Any]], batch_size: int
) -> list[Any]:
    """The number of the best class of each row, or of each of its words."""
    model.eval()
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]["input_ids"]))
    found: list[Any] = [None] * len(rows)
    for at in range(0, len(order), batch_size):
        chosen = order[at : at + batch_size]
        batch = batch_of(tokenizer, [rows[index] for index in chosen])
        labels = batch.pop("labels")
        best = model(**batch).logits.argmax(-1)
        for index, classes, row_labels in zip(chosen, best, labels, strict=True):
            row = rows[index]
            if "words" not in row:
                found[index] = int(classes)
                continue
            found[index] = [OUTSIDE] * row["words"]
            for position in torch.nonzero(row_labels != IGNORED).flatten().tolist():
                found[index][row["word_ids"][position]] = int(classes[position])
    return found


def finetune(work: dict[str, Any]) -> dict[str, Any]:
    """Trains, and predicts the dev set after each epoch.

    Returns:
      `epoch_seconds` and `predictions` of each epoch; `dev_rows_of_full_length`, which may have
      been cut; `threads` of PyTorch.
    """
    torch.manual_seed(work["seed"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(work["model"])
    kind = {
        "classify": transformers.AutoModelForSequenceClassification,
        "tag": transformers.AutoModelForTokenClassification,
    }[work["kind"]]
    model = kind.from_pretrained(work["model"], num_labels=work["classes"])
    train, dev = (encoded(tokenizer, work, split) for split in ("train", "dev"))
    lengths, batch_size = [len(row["input_ids"]) for row in train], work["batch_size"]
    steps = -(-len(train) // batch_size) * work["epochs"]
    optimizer = fused_adamw(model, work["learning_rate"])
    schedule = transformers.get_linear_schedule_with_warmup(
        optimizer, round(work["warmup_proportion"] * steps), steps
    )
    seconds, found = [], []
    for _ in range(work["epochs"]):
        start = time.perf_counter()
        model.train()
        order = get_length_grouped_indices(lengths, batch_size)
        batches = [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
        for chosen in [batches[index] for index in torch.randperm(len(batches)).tolist()]:
            loss = model(**batch_of(tokenizer, [train[index] for index in chosen])).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
        found.append(predictions(model, tokenizer, dev, batch_size))
    cut = sum(len(row["input_ids"]) == work["sequence_length"] for row in dev)
    return {
        "epoch_seconds": seconds,
        "predictions": found,
        "dev_rows_of_full_length": cut,
        "threads": torch.get_num_threads(),
    }


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    file = Path(sys.argv[1])
    file.with_suffix(".found").write_text(json.dumps(finetune(json.loads(file.read_text()))))
