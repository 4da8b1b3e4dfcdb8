"""Asks a trained model, such as: `python run_predict.py fill-mask --checkpoint DIR TEXT`."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from tyro.conf import Positional

from bert_jax.checkpoint import load_params
from bert_jax.errors import UserError
from bert_jax.model import BertConfig
from bert_jax.pretraining import fill_mask
from configs.errors import user_errors
from data_pipeline.command_line import parse
from data_pipeline.predict import fill_mask_inputs
from data_pipeline.tokenizer import load_tokenizer

USAGE = 'run_predict.py fill-mask --checkpoint DIR "Text with a [MASK] ."'


@dataclasses.dataclass(frozen=True)
class FillMask:
    """Prints the most probable pieces for each [MASK] of a text.

    Attributes:
      text: contains [MASK] where a word is missing.
      checkpoint: work folder of a pre-training run.
      step: which checkpoint; the latest by default.
      top: number of pieces.
    """

    text: Positional[str]
    checkpoint: Path
    step: int | None = None
    top: int = 5


def main(arguments: Sequence[str]) -> None:
    """Reads the command line and prints the answer."""
    command = arguments[0] if arguments else ""
    if command in ("-h", "--help"):
        print(f"usage: {USAGE}")
        return
    if command != "fill-mask":
        raise UserError(f"unknown command {command!r}; did you mean 'fill-mask'? Usage: {USAGE}")
    request = parse(FillMask, arguments[1:], program="run_predict.py fill-mask")
    params, config, step = load_params(request.checkpoint, request.step)
    model = BertConfig(**config["model"])
    if not 1 <= request.top <= model.vocab_size:
        raise UserError(f"--top is {request.top}; it must be within 1 to {model.vocab_size}")
    tokenizer = load_tokenizer(request.checkpoint)
    input_ids, positions = fill_mask_inputs(tokenizer, request.text, model.max_position_embeddings)
    ids, probabilities = fill_mask(model, params, input_ids, positions, request.top)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"{request.checkpoint}, step {step}: {request.text}")
    for number in range(len(positions)):
        if len(positions) > 1:
            console.print(f"[MASK] number {number + 1}")
        for token, probability in zip(ids[number], probabilities[number], strict=True):
            console.print(f"  {probability:.4f}  {tokenizer.id_to_piece(int(token))}")


if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
