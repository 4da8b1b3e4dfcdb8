"""Recipes and overrides on the command line, and what cannot be."""

import pytest

from bert_jax.errors import UserError
from commands.pretrain.command_line import from_command_line
from configs.recipes import RECIPES


def test_a_recipe_may_be_called_by_its_full_name():
    assert from_command_line(["bert-base", "--corpus=x"]).recipe == "base"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--phases.1.learning-rate=1"], "given for 1 of 2 phases"),
        (["--phases.0.warmup-proportion=0.1"], "phases.0.warmup_proportion is 0.1, but the phase"),
        (["--optimizer.learning-rate=None"], "optimizer.learning_rate is None"),
        (["--data.masked-lm-probability=0.3"], "raise it to 38"),
        (
            ["--data.packed", "--data.pairs=doc_sentences", "--phases.0.max-predictions=17"],
            "17 is too few for .* 0.15 of 128 tokens in a packed row; raise it to 19",
        ),
        (["--optimizer.warmup-proportion=0.1"], "set the other to None"),
        (["--init-from=/nowhere"], "/nowhere is neither a run's work folder"),
        (["--init-optimizer"], "add --init-from"),
    ],
)
def test_combinations_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        from_command_line(["base", "--corpus=x", *arguments])


def test_settings_that_the_phases_overrule_are_refused():
    arguments = ["large-lamb", "--corpus=x", "--optimizer.learning-rate=1e-3"]
    with pytest.raises(UserError, match=r"optimizer.learning_rate is 0.001, but each phase"):
        from_command_line(arguments)
    arguments = ["large-lamb", "--corpus=x", "--phases.1.warmup-proportion=1.5"]
    with pytest.raises(UserError, match=r"warmup_proportion is 1.5"):
        from_command_line(arguments)


def test_overrides_reach_nested_fields():
    arguments = "base --corpus x --phases.1.steps 7 --model.dtype float32 --loop.keep-best"
    name, config, *_ = from_command_line(arguments.split())
    assert name == "base"
    assert config.phases[1].steps == 7
    assert config.phases[0].steps == 900_000
    assert config.model.dtype == "float32"
    assert config.loop.keep_best
    assert config.work_dir == "runs/base"


def test_the_default_is_the_demo():
    name, config, *_ = from_command_line([])
    assert name == "demo"
    assert config.corpus == "corpora/embedded"


def test_help_lists_the_recipes(capsys):
    with pytest.raises(SystemExit) as caught:
        from_command_line(["--help"])
    assert not caught.value.code
    text = capsys.readouterr().out
    assert all(recipe in text for recipe in RECIPES)
