"""The command line of run_pretrain.py; reading it does not import jax, which takes seconds."""

import dataclasses
import difflib
import inspect
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bert_jax.bounds import check_bounds
from bert_jax.errors import UserError
from bert_jax.files import read_json
from bert_jax.models.architecture import EncoderConfig
from bert_jax.models.registry import config_from_saved
from bert_jax.parallel.config import DistributedConfig
from configs.pretrain import PretrainConfig
from configs.recipes import RECIPES
from data_pipeline.command_line import parse


@dataclasses.dataclass(frozen=True)
class CommandLine(PretrainConfig):
    """The configuration of a run, and options that are not saved with it.

    Attributes:
      dry_run: show what the run would be (configuration, size, memory, schedule, a batch) and exit.
      learning_rates: print the number and the learning rate of each step and exit.
      profile: write a profiler trace of a few steps to work_dir/profile, say where it is, and go
        on.
      compile_for: compile the train steps for a TPU that this machine need not have, such as
        v5e:4x4, print the compiler's figures for memory, cycles and collectives, and exit. Needs no
        corpus.
      distributed: how the processes of a run on several hosts find each other.
    """

    dry_run: bool = False
    learning_rates: bool = False
    profile: bool = False
    compile_for: str = ""
    distributed: DistributedConfig = DistributedConfig()


class Request(NamedTuple):
    """A recipe's name, the validated configuration, and the command line it comes from."""

    recipe: str
    config: PretrainConfig
    options: CommandLine


def from_command_line(arguments: Sequence[str]) -> Request:
    """Reads `[[bert-]RECIPE] [--field value ...]`; the first recipe is the default."""
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

    def read(**changes: Any) -> CommandLine:
        return parse(
            CommandLine,
            rest,
            default=CommandLine(**defaults | {"work_dir": f"runs/{name}"} | changes),
            program=f"run_pretrain.py {name}",
            description="Pre-trains a BERT: run_pretrain.py [RECIPE] [OPTIONS]. The options below "
            f"have the values of the recipe {name}. Recipes:\n{first_lines}",
        )

    given = read()
    if given.init_from:
        # A run that has begun keeps its model, whatever has become of its source.
        begun = Path(given.work_dir, "config.json").is_file()
        source = given.work_dir if begun else given.init_from
        given = read(
            init_from=os.path.normpath(given.init_from), model=_model_of(source, recipe.model)
        )
    modes = [mode for mode in ("dry_run", "learning_rates", "compile_for") if getattr(given, mode)]
    if len(modes) > 1:
        options = " and ".join("--" + mode.replace("_", "-") for mode in modes)
        raise UserError(f"{options} exclude each other; give one of them")
    config = PretrainConfig(**{field: getattr(given, field) for field in defaults})
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
            "recipe adapt continues from a checkpoint; add --init-from DIR, the work folder of a "
            "run or the output of run_convert.py"
        )
    if config.init_optimizer and not config.init_from:
        raise UserError("init_optimizer needs a checkpoint; add --init-from DIR")
    return Request(name, config, given)


def _model_of(folder: str, recipe_model: EncoderConfig) -> EncoderConfig:
    """The architecture of a checkpoint, with the compute dtype and remat of the recipe."""
    path = Path(folder, "config.json")
    try:
        model = config_from_saved(read_json(path)["model"])
        return dataclasses.replace(model, dtype=recipe_model.dtype, remat=recipe_model.remat)
    except (UserError, KeyError, TypeError) as error:
        reason = error if isinstance(error, UserError) else f"{path} describes no model"
        raise UserError(
            f"{folder} is neither a run's work folder nor a converted checkpoint: {reason}; "
            "convert one with: python run_convert.py --help"
        ) from None
