"""Fills in masks with a pre-trained model."""

from rich.console import Console

from bert_jax.errors import UserError
from bert_jax.models.registry import config_from_saved
from bert_jax.objectives.pretraining import fill_mask
from bert_jax.parallel.process import keep_freed_memory
from bert_jax.training.saved_params import load_params
from commands.predict.command_line import FillMask
from data_pipeline.tokenization.fill_mask import fill_mask_inputs
from data_pipeline.tokenization.loading import load_tokenizer


def fill_masks(request: FillMask) -> None:
    """Prints the most probable pieces for each [MASK] in a text."""
    keep_freed_memory()
    params, config, step = load_params(request.checkpoint, request.step)
    model = config_from_saved(config["model"])
    if request.top > model.vocab_size:
        raise UserError(f"--top is {request.top}; it must be at most {model.vocab_size}")
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
