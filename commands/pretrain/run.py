"""Opens what a pre-training needs and checks it before any work is spent."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from rich.console import Console

from bert_jax.errors import UserError
from bert_jax.models.flops import model_flops
from bert_jax.models.registry import architecture_of
from bert_jax.objectives.objective import BatchSize
from bert_jax.objectives.pretraining import PretrainingObjective
from bert_jax.objectives.registry import OBJECTIVES
from bert_jax.parallel import distributed
from bert_jax.parallel.sharding import (
    check_batch_size,
    check_divides,
    described,
    host_rows,
    make_mesh,
)
from bert_jax.training import loop
from bert_jax.training.evaluate import evaluate
from bert_jax.training.optimizer import Optimizer, frozen_mask, make_optimizer
from bert_jax.training.saved_params import load_adam, load_params, saved_steps
from bert_jax.training.step import EvalStep, TrainState, abstract_state, init_state, make_eval_step
from bert_jax.training.warm_start import check_adam, match_params, with_adam
from commands.pretrain.command_line import Request
from commands.pretrain.schedule import schedule_of
from commands.same_run import check_same_run, earlier_config
from configs.pretrain import Phase, PretrainConfig
from configs.recipes import EMBEDDED_CORPUS
from data_pipeline.corpus.shards import Corpus, open_corpus
from data_pipeline.pretraining.batches import batches, evaluation_batches
from data_pipeline.tokenization.interface import Tokenizer
from data_pipeline.tokenization.loading import load_tokenizer


class Run(NamedTuple):
    """An opened pre-training.

    Attributes:
      saved_config: the configuration that its work folder and its checkpoints record.
      stages: one for each phase.
      fresh_state: makes the state to start from if there is no checkpoint.
    """

    config: PretrainConfig
    saved_config: dict[str, Any]
    corpus: Corpus
    tokenizer: Tokenizer
    mesh: Mesh
    objective: PretrainingObjective
    optimizer: Optimizer
    stages: list[loop.Stage]
    fresh_state: Callable[[], TrainState]


def open_run(request: Request, console: Console) -> Run | None:
    """Opens and checks everything and prints what was found; None if the run has ended already."""
    config, work_dir = request.config, Path(request.config.work_dir)
    is_dry_run = request.options.dry_run
    saved_config = config.resolved() | {"recipe": request.recipe}
    with distributed.all_or_none():
        mesh = mesh_of(config)
        earlier = {} if is_dry_run else earlier_config(work_dir)
        check_same_run(work_dir, earlier, saved_config)
        corpus, tokenizer = _open_corpus(config, is_dry_run)
        saved_config["corpus_fingerprint"] = corpus.fingerprint
        check_same_run(work_dir, earlier, saved_config)
    if earlier and (work_dir / "summary.json").is_file():
        console.print(
            f"{work_dir} holds this run, finished: nothing to do; for another run give --work-dir"
        )
        return None
    objective = objective_of(config)
    blocks = architecture_of(config.model).blocks(config.model)
    optimizer = make_optimizer(config.optimizer, schedule_of(config), blocks)
    shapes = abstract_state(objective, optimizer, mesh)[0]
    frozen_mask(shapes.params, config.optimizer.frozen)  # raises for names that match nothing
    init = partial(init_state, objective, optimizer, mesh, config.seed)
    fresh_state, origin = _fresh_state(config, is_dry_run, tokenizer, init, shapes)
    eval_step = make_eval_step(objective, mesh)
    stages = [
        _stage(config, corpus, tokenizer, mesh, index, eval_step)
        for index in range(len(config.phases))
    ]
    parameters = sum(leaf.size for leaf in jax.tree.leaves(shapes.params))
    console.print(
        f"{request.recipe}: {parameters:,} parameters, {config.total_steps:,} steps on "
        f"{described(mesh)}; {corpus.split('train').tokens:,} training tokens in {config.corpus}\n"
        f"{origin}",
        markup=False,
    )
    return Run(
        config, saved_config, corpus, tokenizer, mesh, objective, optimizer, stages, fresh_state
    )


def objective_of(config: PretrainConfig) -> PretrainingObjective:
    """The objective: the one that the data's sentence pairs are for, else masked-LM alone."""
    return OBJECTIVES[config.data.pair_objective or "masked_lm"](config.model)


def batch_size(config: PretrainConfig, phase: Phase) -> BatchSize:
    """The size of the batches of a phase."""
    return BatchSize(
        phase.batch_size, phase.sequence_length, phase.max_predictions, config.data.packed
    )


def mesh_of(config: PretrainConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh, by default of all devices, after a check that it divides heads and batches."""
    mesh = make_mesh(config.mesh, devices)
    check_divides(mesh, "heads", config.model.num_attention_heads, "model.num_attention_heads")
    for phase in config.phases:
        check_batch_size(phase.batch_size, mesh, config.loop.accumulation_steps)
    return mesh


def _open_corpus(config: PretrainConfig, is_dry_run: bool) -> tuple[Corpus, Tokenizer]:
    """Opens the corpus and its tokenizer; the demo's corpus is built first if it is missing."""
    vocab_size = config.model.vocab_size
    if config.corpus == EMBEDDED_CORPUS and not Path(config.corpus, "corpus.json").is_file():
        if is_dry_run or jax.process_count() > 1:
            who = "--dry-run" if is_dry_run else "a run of several hosts"
            raise UserError(
                f"{config.corpus} does not exist, and {who} does not build it; build it with: "
                "python -m data_pipeline.prepare --input embedded "
                f"--output {config.corpus} --vocab-size {vocab_size}"
            )
        from data_pipeline.prepare import PrepareConfig, prepare

        prepare(
            PrepareConfig(input=("embedded",), output=Path(config.corpus), vocab_size=vocab_size),
            shows_next=False,
        )
    corpus = open_corpus(config.corpus)
    if corpus.vocab_size != vocab_size:
        raise UserError(
            f"model.vocab_size is {vocab_size}, but the vocabulary of {config.corpus} has "
            f"{corpus.vocab_size} pieces; add --model.vocab-size {corpus.vocab_size}"
        )
    tokenizer = load_tokenizer(corpus.folder)
    expected = corpus.metadata["tokenizer"]["fingerprint"]
    if tokenizer.description["fingerprint"] != expected:
        raise UserError(
            f"the tokenizer in {config.corpus} is not the one that the corpus was made with, whose "
            f"fingerprint is {expected}; copy or prepare the corpus again"
        )
    return corpus, tokenizer


def _fresh_state(
    config: PretrainConfig,
    is_dry_run: bool,
    tokenizer: Tokenizer,
    init: Callable[..., TrainState],
    shapes: TrainState,
) -> tuple[Callable[[], TrainState], str]:
    """A function that makes the state to start from, and a line that says where it comes from.

    `init` makes a state from given parameters, if any, and fresh ones.
    """
    if not is_dry_run and (steps := saved_steps(Path(config.work_dir))):
        return init, f"parameters: the run's own, step {steps[-1]}"
    if not config.init_from:
        return init, f"parameters: fresh, seed {config.seed}"
    folder = Path(config.init_from)
    loaded, _, step = load_params(folder)
    own = load_tokenizer(folder).description
    if own != tokenizer.description:
        options = f"--vocab {folder}/vocab.txt"
        if own["kind"] != "wordpiece":
            options = f"--model {folder}/sentencepiece.model"
        elif not own["lowercase"]:
            options += " --no-lowercase"
        raise UserError(
            f"the tokenizer of {folder} is not the one of {config.corpus}; prepare the corpus with "
            f"it: python -m data_pipeline.prepare {options} --input FILES --output DIR"
        )
    start = match_params(shapes.params, loaded, str(folder))
    origin = f"parameters: {folder}, step {step}"
    if start.fresh:
        origin += f"; not in it and so fresh: {', '.join(start.fresh)}"
    if start.unused:
        origin += f"; in it and not used: {', '.join(start.unused)}"
    if not config.init_optimizer:
        return partial(init, start.params), origin
    adam = load_adam(folder)
    if adam is None:
        raise UserError(f"{folder} holds no moments of Adam; leave out --init-optimizer")
    if step >= config.total_steps:
        raise UserError(
            f"{folder} has had {step} steps, the run has {config.total_steps} in all; raise "
            "phases.N.steps or leave out --init-optimizer"
        )
    check_adam(shapes, adam)
    origin += f"; with Adam's moments, from step {step} on"
    return lambda: with_adam(init(start.params), adam, step), origin


def _stage(
    config: PretrainConfig,
    corpus: Corpus,
    tokenizer: Tokenizer,
    mesh: Mesh,
    index: int,
    eval_step: EvalStep,
) -> loop.Stage:
    """The stage of one phase, after a check of its data."""
    phase = config.phases[index]
    shape: dict[str, Any] = {
        "sequence_length": phase.sequence_length,
        "max_predictions": phase.max_predictions,
        "starts_word": tokenizer.starts_word,
    }
    # With the same seed, every phase would draw the same order.
    seed = int(np.random.SeedSequence([config.seed, index]).generate_state(1)[0])
    host_index, host_count = host_rows(mesh)

    def train_batches(cursor: Sequence[int] | None) -> Iterator[loop.HostBatch]:
        return batches(
            corpus,
            config.data,
            batch_size=phase.batch_size,
            seed=seed,
            cursor=cursor or (0, 0, 0),
            host_index=host_index,
            host_count=host_count,
            **shape,
        )

    train_batches(None)  # checks whether the corpus and the settings fit together
    held_out = _held_out(config, corpus, mesh, phase.batch_size, shape)
    return loop.Stage(
        steps=phase.steps,
        batches=train_batches,
        evaluate=(
            (lambda params: evaluate(eval_step, params, held_out, mesh)) if held_out else None
        ),
        flops_per_step=model_flops(
            config.model,
            batch_size=phase.batch_size,
            sequence_length=phase.sequence_length,
            max_predictions=phase.max_predictions,
        ),
        rows=config.data.rows,
    )


def _held_out(
    config: PretrainConfig, corpus: Corpus, mesh: Mesh, batch_size: int, shape: dict[str, Any]
) -> list[loop.HostBatch]:
    """This host's rows of the evaluation batches, which are the same on every mesh."""
    if not config.evaluation_examples:
        return []
    size = batch_size // config.loop.accumulation_steps
    examples = config.evaluation_examples + -config.evaluation_examples % size
    held_out = evaluation_batches(
        corpus, config.data, batch_size=size, examples=examples, seed=config.seed, **shape
    )
    index, count = host_rows(mesh)
    mine = slice(index * size // count, (index + 1) * size // count)
    return [{name: array[mine] for name, array in batch.items()} for batch in held_out]
