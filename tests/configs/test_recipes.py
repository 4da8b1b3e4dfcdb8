"""Recipes against what is published, and overrides."""

import jax
import pytest

from bert_jax.objectives.pretraining import PretrainingObjective
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
