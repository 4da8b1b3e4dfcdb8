"""How a pre-training is read from the command line; without jax, so that mistakes are told soon."""

import dataclasses
import difflib
import inspect
import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bert_jax.bounds import check_bounds
from bert_jax.errors import UserError
from bert_jax.models.architecture import EncoderConfig
from bert_jax.models.registry import config_from_saved
from bert_jax.parallel.config import DistributedConfig
from configs.pretrain import PretrainConfig
from configs.recipes import RECIPES
from data_pipeline.command_line import parse


class Request(NamedTuple):
    """What a command line asks for.

    Attributes:
      recipe: its name.
      config: the validated configuration, overrides applied.
      dry_run: only show what the run would be.
      learning_rates: only print the learning rate of each step.
      profile: write a trace of a few steps.
      compile_for: only compile the train steps for this TPU topology; empty to train.
      distributed: how the processes of the run find each other.
    """

    recipe: str
    config: PretrainConfig
    dry_run: bool
    learning_rates: bool
    profile: bool
    compile_for: str
    distributed: DistributedConfig


@dataclasses.dataclass(frozen=True)
class _CommandLine(PretrainConfig):
    dry_run: bool = False
    """Show what the run would be (configuration, size, memory, schedule, a batch) and exit."""

    learning_rates: bool = False
    """Print the number of each step and its learning rate and exit."""

    profile: bool = False
    """Write a profiler trace of a few steps to work_dir/profile, say where it is, and go on."""

    compile_for: str = ""
    """Compile the train steps for a TPU that is not there, such as v5e:4x4, print what the compiler
    says of memory, cycles and collectives, and exit. Needs no corpus."""
    distributed: DistributedConfig = DistributedConfig()
    """How the processes of a run on several hosts find each other; not part of what is saved."""


def from_command_line(arguments: Sequence[str]) -> Request:
    """Reads `[RECIPE] [--field value ...]`; the first recipe is the default.

    "bert-" may stand before the name of a recipe.
    """
    name, rest = next(iter(RECIPES)), list(arguments)
    if rest and not rest[0].startswith("-"):
        name = rest.pop(0).removeprefix("bert-")
    for before, word in itertools.pairwise(rest):
        if word.removeprefix("bert-") in RECIPES and not before.startswith("-"):
            raise UserError(f"the recipe comes first: run_pretrain.py {word} ...")
    if name not in RECIPES:
        nearest = difflib.get_close_matches(name, RECIPES, n=1, cutoff=0)[0]
        raise UserError(
            f"unknown recipe {name!r}; did you mean {nearest!r}? There are: {', '.join(RECIPES)}"
        )
    first_lines = "\n".join(
        f"  {recipe}: {(inspect.getdoc(function) or '').splitlines()[0]}"
        for recipe, function in RECIPES.items()
    )
    recipe = RECIPES[name]()
    defaults = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}

    def read(**changes: Any) -> _CommandLine:
        return parse(
            _CommandLine,
            rest,
            default=_CommandLine(**defaults | {"work_dir": f"runs/{name}"} | changes),
            program=f"run_pretrain.py {name}",
            description="Pre-trains a BERT: run_pretrain.py [RECIPE] [OPTIONS]. Below, the options "
            f"with the values of the recipe {name}. Recipes:\n{first_lines}",
        )

    given = read()
    if given.init_from:
        # A run that has begun keeps its model, whatever has become of where it came from.
        begun = Path(given.work_dir, "config.json").is_file()
        source = given.work_dir if begun else given.init_from
        given = read(
            init_from=os.path.normpath(given.init_from), model=_model_of(source, recipe.model)
        )
    asked = [name for name in ("dry_run", "learning_rates", "compile_for") if getattr(given, name)]
    if len(asked) > 1:
        options = " and ".join("--" + name.replace("_", "-") for name in asked)
        raise UserError(f"{options} are given together; give one of them")
    config = PretrainConfig(**{name: getattr(given, name) for name in defaults})
    config.validate()
    check_bounds(given.distributed, "distributed.")
    given.distributed.validate()
    if not config.work_dir:
        raise UserError("work_dir is empty; name the folder of the run: --work-dir DIR")
    if not (config.corpus or given.learning_rates or given.compile_for):
        raise UserError(
            f"recipe {name} needs --corpus DIR; make one with: "
            "python -m data_pipeline.prepare --input FILES --output DIR"
        )
    if name == "adapt" and not config.init_from:
        raise UserError(
            "recipe adapt goes on with a checkpoint; add --init-from DIR, the work folder of a run "
            "or what run_convert.py wrote"
        )
    if config.init_optimizer and not config.init_from:
        raise UserError("init_optimizer needs a checkpoint to take it from; add --init-from DIR")
    return Request(
        name,
        config,
        given.dry_run,
        given.learning_rates,
        given.profile,
        given.compile_for,
        given.distributed,
    )


def _model_of(folder: str, recipe_model: EncoderConfig) -> EncoderConfig:
    """The architecture of a checkpoint, with the compute dtype of the recipe."""
    path = Path(folder, "config.json")
    try:
        model = config_from_saved(json.loads(path.read_text(encoding="utf-8"))["model"])
        return dataclasses.replace(model, dtype=recipe_model.dtype, remat=recipe_model.remat)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder} is no work folder and no converted checkpoint ({path}: "
            f"{type(error).__name__}); convert one with: python run_convert.py --help"
        ) from None
