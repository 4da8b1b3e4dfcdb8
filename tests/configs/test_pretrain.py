"""Recipes against what is published, and overrides."""

import jax
import numpy as np
import pytest

from bert_jax.errors import UserError
from bert_jax.objectives.pretraining import PretrainingObjective
from commands.work_dir import differences
from configs.pretrain import from_command_line
from configs.recipes import RECIPES

# Parameters in millions, as published with the models: arXiv:1810.04805 and arXiv:1908.08962.
PUBLISHED = {"tiny": 4.4, "mini": 11.3, "small": 29.1, "medium": 41.7, "base": 110, "large": 340}


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_recipes_have_the_published_sizes(recipe):
    objective = PretrainingObjective(RECIPES[recipe]().model)
    shapes = jax.eval_shape(objective.init, jax.random.key(0))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(shapes)) / 1e6
    assert parameters == pytest.approx(PUBLISHED[recipe], rel=0.03)


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_are_valid_and_say_how_to_run_them(recipe):
    RECIPES[recipe]().validate()
    documentation = RECIPES[recipe].__doc__
    assert "Command: python run_pretrain.py" in documentation
    assert "Hardware: " in documentation


@pytest.mark.parametrize("recipe", ["base", "large"])
def test_the_original_schedule(recipe):
    config = RECIPES[recipe]()
    assert config.total_steps == 1_000_000
    assert [phase.sequence_length for phase in config.phases] == [128, 512]
    assert config.phases[0].steps == 900_000
    assert {phase.batch_size for phase in config.phases} == {256}
    assert config.optimizer.learning_rate == 1e-4
    assert config.optimizer.warmup_steps == 10_000


def test_the_large_batch_recipe_warms_up_in_each_phase():
    """28.43% of 7,038 steps to 6e-3, then 12.8% of 1,563 steps to 4e-3, square roots after."""
    config = RECIPES["large-lamb"]()
    rates = jax.vmap(config.learning_rate_schedule())(np.arange(config.total_steps + 1))
    assert config.total_steps == 8_601
    first = round(0.2843 * 7_038)
    assert rates[1] == pytest.approx(6e-3 / first, rel=1e-5)
    assert rates[first] == pytest.approx(6e-3 * (1 - first / 7_038) ** 0.5, rel=1e-5)
    assert rates[7_037] == pytest.approx(6e-3 / 7_038**0.5, rel=1e-3)
    assert rates[7_038] == 0
    assert rates[7_038 + 200] == pytest.approx(4e-3 * (1 - 200 / 1_563) ** 0.5, rel=1e-5)
    assert rates[8_601] == 0
    assert [phase.batch_size for phase in config.phases] == [65_536, 32_768]


def test_the_short_recipe_ends_at_two_percent():
    config = RECIPES["base-short"]()
    schedule = config.learning_rate_schedule()
    assert float(schedule(4_200)) == pytest.approx(5e-4)
    assert float(schedule(70_000)) == pytest.approx(1e-5)
    assert config.data.masked_lm_probability == 0.3
    assert config.phases[0].max_predictions == round(0.3 * 128)


def test_a_recipe_may_be_called_by_its_full_name():
    assert from_command_line(["bert-base", "--corpus=x"], RECIPES).recipe == "base"


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
        (["--init-from=/nowhere"], "/nowhere is no work folder"),
        (["--init-optimizer"], "add --init-from"),
    ],
)
def test_combinations_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        from_command_line(["base", "--corpus=x", *arguments], RECIPES)


def test_settings_that_the_phases_overrule_are_refused():
    arguments = ["large-lamb", "--corpus=x", "--optimizer.learning-rate=1e-3"]
    with pytest.raises(UserError, match=r"optimizer.learning_rate is 0.001, but each phase"):
        from_command_line(arguments, RECIPES)
    arguments = ["large-lamb", "--corpus=x", "--phases.1.warmup-proportion=1.5"]
    with pytest.raises(UserError, match=r"warmup_proportion is 1.5"):
        from_command_line(arguments, RECIPES)


def test_overrides_reach_nested_fields():
    arguments = "base --corpus x --phases.1.steps 7 --model.dtype float32 --loop.keep-best"
    name, config, *_ = from_command_line(arguments.split(), RECIPES)
    assert name == "base"
    assert config.phases[1].steps == 7
    assert config.phases[0].steps == 900_000
    assert config.model.dtype == "float32"
    assert config.loop.keep_best
    assert config.work_dir == "runs/base"


def test_the_default_is_the_demo():
    name, config, *_ = from_command_line([], RECIPES)
    assert name == "demo"
    assert config.corpus == "corpora/embedded"


def test_help_lists_the_recipes(capsys):
    with pytest.raises(SystemExit) as caught:
        from_command_line(["--help"], RECIPES)
    assert not caught.value.code
    text = capsys.readouterr().out
    assert all(recipe in text for recipe in RECIPES)


def test_differences_name_fields_and_leave_out_what_may_change():
    config = RECIPES["base"]().resolved()
    other = RECIPES["base"]().resolved()
    other["loop"]["save_every"] = 1
    other["corpus"] = "moved"
    assert differences(config, other) == []
    other["phases"][1]["steps"] = 5
    other["phases"].append({"steps": 1})
    assert differences(config, other)[0].startswith("phases: ")
