"""The learning rates of a pre-training; each phase may have a schedule of its own."""

import itertools

import jax
import numpy as np
import optax

from bert_jax.training.optimizer import learning_rate_schedule
from configs.pretrain import PretrainConfig


def schedule_of(config: PretrainConfig) -> optax.Schedule:
    """The learning rate of every step of the run: step -> float32 scalar."""
    own = config.optimizers_of_phases()
    if not own:
        return learning_rate_schedule(config.optimizer, config.total_steps)
    steps = [phase.steps for phase in config.phases]
    schedules = map(learning_rate_schedule, own, steps)
    return optax.join_schedules(list(schedules), list(itertools.accumulate(steps))[:-1])


def learning_rates(config: PretrainConfig) -> list[float]:
    """The rate of each step of the run."""
    return jax.vmap(schedule_of(config))(np.arange(config.total_steps)).tolist()
