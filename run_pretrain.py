"""Pre-trains a BERT: `python run_pretrain.py [RECIPE] [--corpus DIR] [--field value ...]`.

Without arguments it is the demo: a small BERT on the documentation of your own Python. The same
command typed again continues an interrupted run.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from rich.console import Console

from bert_jax.errors import UserError
from bert_jax.models.flops import model_flops, peak_flops
from bert_jax.models.registry import architecture_of
from bert_jax.monitoring.plots import plot_curves
from bert_jax.monitoring.tracker import SilentTracker, Tracker, read_metrics
from bert_jax.objectives.pretraining import PretrainingObjective, fill_mask
from bert_jax.parallel import distributed
from bert_jax.parallel.machine import keep_compiled_programs, keep_freed_memory
from bert_jax.parallel.sharding import described, host_rows
from bert_jax.training import loop
from bert_jax.training.checkpoint import Checkpoints, load_adam, load_params, saved_steps
from bert_jax.training.evaluate import evaluate
from bert_jax.training.optimizer import frozen_mask, make_optimizer
from bert_jax.training.step import EvalStep, TrainState, abstract_state, init_state, make_eval_step
from bert_jax.training.warm_start import check_adam, match_params, with_adam
from commands.errors import user_errors
from commands.pretrain import compile_for, dry_run
from commands.pretrain.summary import held_out_lines, speed_lines
from commands.work_dir import (
    check_same_run,
    check_shared,
    earlier_config,
    first_start_of,
    locked,
)
from configs.pretrain import Phase, PretrainConfig, from_command_line
from configs.recipes import EMBEDDED_CORPUS, RECIPES
from data_pipeline.corpus.shards import Corpus, open_corpus
from data_pipeline.files import write_json
from data_pipeline.prepare import PrepareConfig, prepare
from data_pipeline.pretraining.batches import batches, evaluation_batches
from data_pipeline.pretraining.fill_mask import fill_mask_inputs
from data_pipeline.tokenization.loading import Tokenizer, load_tokenizer

EXAMPLES = (
    "The function returns a [MASK] .",
    "If the file does not [MASK] , an error is raised.",
    "Return the number of [MASK] in the list.",
)


def main(arguments: Sequence[str]) -> None:
    """Reads the command line, trains, and prints what to type next."""
    started = time.time()
    request = from_command_line(arguments, RECIPES)
    recipe, config, is_dry_run = request.recipe, request.config, request.dry_run
    work_dir = Path(config.work_dir)
    if request.compile_for:
        compile_for.show(Console(soft_wrap=True, highlight=False), config, request.compile_for)
        return
    if request.learning_rates:
        rates = jax.vmap(config.learning_rate_schedule())(np.arange(config.total_steps))
        sys.stdout.writelines(f"{step}\t{rate:.9g}\n" for step, rate in enumerate(rates.tolist()))
        return

    keep_freed_memory()
    distributed.initialize(request.distributed)
    console = Console(soft_wrap=True, highlight=False, quiet=not distributed.is_first())
    keep_compiled_programs()
    saved_config = config.resolved() | {"recipe": recipe}
    with distributed.all_or_none():
        mesh = config.make_mesh()
        earlier = {} if is_dry_run else earlier_config(work_dir)
        check_same_run(work_dir, earlier, saved_config)
        corpus, tokenizer = _open_corpus(config, is_dry_run)
        saved_config["corpus_fingerprint"] = corpus.fingerprint
        check_same_run(work_dir, earlier, saved_config)
    if earlier and (work_dir / "summary.json").is_file():
        console.print(
            f"{work_dir} holds this run, finished; nothing to do. Another run: --work-dir DIR"
        )
        return
    objective = PretrainingObjective(config.model, config.data.pair_objective)
    blocks = architecture_of(config.model).blocks(config.model)
    optimizer = make_optimizer(config.optimizer, config.learning_rate_schedule(), blocks)
    shapes = abstract_state(objective, optimizer, mesh)[0]
    frozen_mask(shapes.params, config.optimizer.frozen)  # refuses names that freeze nothing
    init = partial(init_state, objective, optimizer, mesh, config.seed)
    fresh_state, origin = _fresh_state(config, is_dry_run, tokenizer, init, shapes)
    eval_step = make_eval_step(objective, mesh)
    stages = [
        _stage(config, corpus, tokenizer, mesh, index, eval_step)
        for index in range(len(config.phases))
    ]
    parameters = sum(leaf.size for leaf in jax.tree.leaves(shapes.params))
    console.print(
        f"{recipe}: {parameters:,} parameters, {config.total_steps:,} steps on "
        f"{described(mesh)}; "
        f"{corpus.split('train').tokens:,} training tokens in {config.corpus}\n{origin}",
        markup=False,
    )
    if is_dry_run:
        dry_run.show(console, config, stages, objective, optimizer, mesh, corpus, tokenizer)
        return

    with contextlib.ExitStack() as stack:
        # Each block is left when all have read, written or compared what is in the work folder.
        with distributed.all_or_none():
            if distributed.is_first():
                stack.enter_context(locked(work_dir))
            first_start = first_start_of(work_dir, saved_config) or started
        with distributed.all_or_none():
            if distributed.is_first():
                write_json(work_dir / "config.json", saved_config | {"first_start": first_start})
                tokenizer.save(work_dir)
        with distributed.all_or_none():
            if not distributed.is_first():
                check_shared(work_dir, saved_config)
        checkpoints = Checkpoints(
            work_dir / "checkpoints", config.loop.keep_checkpoints, config.loop.keep_best
        )
        device_peak = peak_flops(jax.devices()[0].device_kind, config.model.dtype)
        outcome = loop.run(
            config.loop,
            stages,
            objective=objective,
            optimizer=optimizer,
            mesh=mesh,
            checkpoints=checkpoints,
            open_tracker=lambda step: (
                Tracker(work_dir, step) if distributed.is_first() else SilentTracker()
            ),
            saved_config=saved_config,
            fresh_state=fresh_state,
            seed=config.seed,
            peak_flops=device_peak and device_peak * jax.device_count(),
            first_start=first_start,
            profile=work_dir / "profile" if request.profile else None,
        )
        checkpoints.close()
        params = distributed.gathered(outcome.state.params) if recipe == "demo" else None
        if not distributed.is_first():
            return
        rows = read_metrics(work_dir / "metrics.jsonl")
        plot_curves(rows, work_dir / "curves.png", corpus.metadata["heldout_unigram_entropy"])
        if outcome.reason == "stopped":
            return
        entropy = corpus.metadata["heldout_unigram_entropy"]
        for line in (*held_out_lines(rows, entropy), *speed_lines(rows, config)):
            console.print(line)
        if recipe == "demo":
            for text in EXAMPLES:
                console.print(_filled(config, params, tokenizer, text), markup=False)
        step = int(outcome.state.step)
        write_json(work_dir / "summary.json", {"step": step, "reason": outcome.reason})
    console.print(
        f"\nDone in {(time.time() - started) / 60:.1f} minutes. Look at: "
        f"{work_dir}/curves.png, {work_dir}/metrics.jsonl; or pip install tensorboard and "
        f"tensorboard --logdir {work_dir}\n"
        f"Type next:\n{_activation()}"
        f'  python run_predict.py fill-mask --checkpoint {work_dir} "{EXAMPLES[0]}"\n'
        f"  python run_convert.py to-hf --checkpoint {work_dir} --output DIR  # for transformers\n"
        "  python -m data_pipeline.prepare --help    # a corpus of your own text",
        markup=False,
    )


def _activation() -> str:
    """The line that activates this virtual environment, where that has not been done."""
    if sys.prefix == sys.base_prefix or os.environ.get("VIRTUAL_ENV") == sys.prefix:
        return ""
    return f"  source {os.path.relpath(sys.prefix)}/bin/activate\n"


def _open_corpus(config: PretrainConfig, is_dry_run: bool) -> tuple[Corpus, Tokenizer]:
    """Opens the corpus and its tokenizer; the embedded one is built first if it is not there.

    Raises:
      UserError: they do not fit each other or the model.
    """
    vocab_size = config.model.vocab_size
    if config.corpus == EMBEDDED_CORPUS and not Path(config.corpus, "corpus.json").is_file():
        if is_dry_run or jax.process_count() > 1:
            who = "--dry-run" if is_dry_run else "a run of several hosts"
            raise UserError(
                f"{config.corpus} is not there, and {who} makes nothing; make it with: "
                "python -m data_pipeline.prepare --input embedded "
                f"--output {config.corpus} --vocab-size {vocab_size}"
            )
        prepare(
            PrepareConfig(input=("embedded",), output=Path(config.corpus), vocab_size=vocab_size),
            shows_next=False,
        )
    corpus = open_corpus(config.corpus)
    if corpus.vocab_size != vocab_size:
        raise UserError(
            f"model.vocab_size is {vocab_size}, the vocabulary of {config.corpus} has "
            f"{corpus.vocab_size} pieces; add --model.vocab-size {corpus.vocab_size}"
        )
    tokenizer = load_tokenizer(corpus.folder)
    expected = corpus.metadata["tokenizer"]["fingerprint"]
    if tokenizer.description["fingerprint"] != expected:
        raise UserError(
            f"the tokenizer in {config.corpus} is not the one that the corpus was made with (its "
            f"fingerprint is not {expected}); copy or prepare the corpus again"
        )
    return corpus, tokenizer


def _fresh_state(
    config: PretrainConfig,
    is_dry_run: bool,
    tokenizer: Tokenizer,
    init: Callable[..., TrainState],
    shapes: TrainState,
) -> tuple[Callable[[], TrainState], str]:
    """What makes the state to start from, and a line that says where it comes from.

    Args:
      config: the run's.
      is_dry_run: the work folder does not matter then.
      tokenizer: that of the corpus.
      init: makes a state with the parameters that it is given, if any, and fresh ones.
      shapes: those of that state.

    Raises:
      UserError: the checkpoint to start from does not fit the run or the corpus.
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
    """The stage of one phase; everything that can be wrong with its data is checked here."""
    phase: Phase = config.phases[index]
    shape: dict[str, Any] = {
        "sequence_length": phase.sequence_length,
        "max_predictions": phase.max_predictions,
        "starts_word": tokenizer.starts_word,
    }
    # Streams that share a seed would draw the same order in every phase.
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

    train_batches(None)  # refuses what does not fit before any work is spent
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
    """This host's rows of the fixed evaluation batches, the same ones on every mesh."""
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


def _filled(config: PretrainConfig, params: Any, tokenizer: Tokenizer, text: str) -> str:
    """One line: the text and the five best pieces for its mask."""
    inputs = fill_mask_inputs(tokenizer, text, config.model.max_position_embeddings)
    ids, probabilities = fill_mask(config.model, params, *inputs)
    pieces = ", ".join(
        f"{tokenizer.id_to_piece(int(token))} {probability:.2f}"
        for token, probability in zip(ids[0], probabilities[0], strict=True)
    )
    return f"{text}  ->  {pieces}"


if __name__ == "__main__":
    with user_errors():
        main(sys.argv[1:])
