"""The learning rates of recipes, over their phases."""

import jax
import numpy as np
import pytest

from commands.pretrain.schedule import schedule_of
from configs.recipes import RECIPES


def test_the_large_batch_recipe_warms_up_in_each_phase():
    """28.43% of 7,038 steps to 6e-3, then 12.8% of 1,563 steps to 4e-3, square roots after."""
    config = RECIPES["large-lamb"]()
    rates = jax.vmap(schedule_of(config))(np.arange(config.total_steps + 1))
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
    schedule = schedule_of(config)
    assert float(schedule(4_200)) == pytest.approx(5e-4)
    assert float(schedule(70_000)) == pytest.approx(1e-5)
    assert config.data.masked_lm_probability == 0.3
    assert config.phases[0].max_predictions == round(0.3 * 128)
