"""Values outside the interval of their field are refused by name."""

import dataclasses
from dataclasses import field

import pytest

from bert_jax.bounds import check_bounds
from bert_jax.errors import UserError
from bert_jax.models.config import BertConfig, MethodConfig
from bert_jax.objectives.config import RegularizationConfig
from bert_jax.parallel.config import DistributedConfig
from bert_jax.training.config import LoopConfig, OptimizerConfig
from configs.finetune import FinetuneConfig
from configs.pretrain import Phase, PretrainConfig

PHASE = Phase(steps=1, sequence_length=8, batch_size=1, max_predictions=1)


@dataclasses.dataclass(frozen=True)
class Inner:
    share: float = field(default=0.5, metadata={"interval": "(0, 1]"})


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    several: tuple[Inner, ...] = ()
    numbers: tuple[int, ...] = field(default=(1,), metadata={"interval": "[1, inf)"})
    perhaps: float | None = field(default=None, metadata={"interval": "[0, inf)"})
    free: int = -5


@pytest.mark.parametrize(
    "config", [Outer(), Outer(inner=Inner(1.0)), Outer(several=(Inner(),), perhaps=0.0)]
)
def test_what_is_within_passes(config):
    check_bounds(config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Outer(inner=Inner(0.0)), r"^inner\.share is 0\.0; it must be in \(0, 1\]$"),
        (Outer(inner=Inner(1.5)), r"^inner\.share is 1\.5"),
        (Outer(several=(Inner(), Inner(2))), r"^several\.1\.share is 2"),
        (Outer(numbers=(3, 0)), r"^numbers is 0; it must be at least 1$"),
        (Outer(perhaps=float("inf")), r"^perhaps is inf"),
        (Outer(perhaps=float("nan")), r"^perhaps is nan"),
    ],
)
def test_what_is_not_within_is_named(config, message):
    with pytest.raises(UserError, match=message):
        check_bounds(config)


@pytest.mark.parametrize(
    ("config", "change"),
    [
        (BertConfig(), {"num_hidden_layers": 0}),
        (BertConfig(), {"hidden_dropout_prob": 1.0}),
        (BertConfig(), {"initializer_range": float("inf")}),
        (MethodConfig(), {"rank": 0}),
        (MethodConfig(), {"alpha": -1.0}),
        (MethodConfig(), {"bottleneck": 0}),
        (MethodConfig(), {"prefix_length": 0}),
        (RegularizationConfig(), {"label_smoothing": 1.0}),
        (RegularizationConfig(), {"r_drop": -1.0}),
        (RegularizationConfig(), {"adversarial": float("inf")}),
        (DistributedConfig(), {"timeout": 9}),
        (DistributedConfig(), {"processes": 0}),
        (LoopConfig(), {"log_every": 0}),
        (LoopConfig(), {"save_every": 0}),
        (LoopConfig(), {"patience": -1}),
        (LoopConfig(), {"accumulation_steps": 0}),
        (OptimizerConfig(), {"learning_rate": 0.0}),
        (OptimizerConfig(), {"warmup_proportion": 1.5}),
        (OptimizerConfig(), {"end_proportion": -0.1}),
        (OptimizerConfig(), {"beta_1": 1.0}),
        (OptimizerConfig(), {"epsilon": 0.0}),
        (OptimizerConfig(), {"layer_decay": 0.0}),
        (OptimizerConfig(), {"weight_decay": -0.1}),
        (PHASE, {"steps": 0}),
        (PHASE, {"warmup_proportion": 1.5}),
        (PretrainConfig((PHASE,)), {"seed": 1 << 31}),
        (PretrainConfig((PHASE,)), {"evaluation_examples": -1}),
        (FinetuneConfig(), {"batch_size": 0}),
        (FinetuneConfig(), {"train_examples": -1}),
        (FinetuneConfig(), {"seeds": (0, -1)}),
        (FinetuneConfig(), {"dropout": 1.0}),
    ],
)
def test_the_bounds_of_the_configurations(config, change):
    check_bounds(config)
    name = next(iter(change))
    with pytest.raises(UserError, match=rf"^part\.{name} is "):
        check_bounds(dataclasses.replace(config, **change), "part.")
