"""Pre-training recipes, a function each; the command line can override every field."""

from collections.abc import Callable
from typing import Any

from bert_jax.models.config import BertConfig
from bert_jax.training.config import LoopConfig, OptimizerConfig
from configs.pretrain import Phase, PretrainConfig
from data_pipeline.pretraining.config import DataConfig

EMBEDDED_CORPUS = "corpora/embedded"


def demo() -> PretrainConfig:
    """A small BERT on the documentation of your own Python, in minutes on two CPU cores.

    Command: python run_pretrain.py
    Hardware: 2 CPU cores. Run time and figures: README.md.
    """
    return PretrainConfig(
        corpus=EMBEDDED_CORPUS,
        model=BertConfig(
            vocab_size=8192,
            hidden_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=512,
            max_position_embeddings=128,
            hidden_act="gelu_tanh",  # cheaper on a CPU
            hidden_dropout_prob=0.0,  # in so short a run no sentence comes often enough to overfit
            attention_probs_dropout_prob=0.0,
            initializer_range=0.05,  # with 0.02 so narrow a layer has almost no effect
        ),
        # Without bias correction, a beta_2 of 0.999 triples the rate of several hundred steps, and
        # so short a run does not get beyond the unigram frequencies.
        optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=100, beta_2=0.98),
        # Short sequences come first, see docs/decisions/demo-settings.md.
        phases=(
            Phase(steps=1200, sequence_length=32, batch_size=64, max_predictions=5),
            Phase(steps=600, sequence_length=64, batch_size=64, max_predictions=10),
        ),
        loop=LoopConfig(log_every=10, evaluate_every=300, save_every=300),
        evaluation_examples=512,
    )


def _small_recipe(layers: int, hidden: int, *, steps: int, learning_rate: float) -> PretrainConfig:
    return PretrainConfig(
        model=_published_model(layers, hidden),
        optimizer=OptimizerConfig(learning_rate=learning_rate, warmup_steps=steps // 100),
        phases=(Phase(steps=steps, sequence_length=128, batch_size=256, max_predictions=20),),
        loop=LoopConfig(log_every=100, evaluate_every=5_000, save_every=2_500),
    )


def _published_model(layers: int, hidden: int, **others: Any) -> BertConfig:
    """Sizes as published: heads of 64 and a feed-forward layer four times as wide (1908.08962)."""
    return BertConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        intermediate_size=4 * hidden,
        **others,
    )


def tiny() -> PretrainConfig:
    """BERT-tiny: 2 layers, 128 wide, 4.4 million parameters (arXiv:1908.08962).

    Command: python run_pretrain.py tiny --corpus DIR
    Hardware: a CPU is enough. We have not yet run it to the end; docs/results.md has shorter runs.
    """
    return _small_recipe(2, 128, steps=50_000, learning_rate=1e-3)


def mini() -> PretrainConfig:
    """BERT-mini: 4 layers, 256 wide, 11 million parameters (arXiv:1908.08962).

    Command: python run_pretrain.py mini --corpus DIR
    Hardware: one GPU. We have not yet run it to the end.
    """
    return _small_recipe(4, 256, steps=100_000, learning_rate=7e-4)


def small() -> PretrainConfig:
    """BERT-small: 4 layers, 512 wide, 29 million parameters (arXiv:1908.08962).

    Command: python run_pretrain.py small --corpus DIR
    Hardware: one GPU. We have not yet run it to the end.
    """
    return _small_recipe(4, 512, steps=100_000, learning_rate=5e-4)


def medium() -> PretrainConfig:
    """BERT-medium: 8 layers, 512 wide, 41 million parameters (arXiv:1908.08962).

    Command: python run_pretrain.py medium --corpus DIR
    Hardware: one GPU. We have not yet run it to the end.
    """
    return _small_recipe(8, 512, steps=200_000, learning_rate=4e-4)


def _original_recipe(layers: int, hidden: int) -> PretrainConfig:
    """The published schedule: 90% of a million steps at length 128, the rest at 512."""
    return PretrainConfig(
        model=_published_model(layers, hidden, dtype="bfloat16"),
        optimizer=OptimizerConfig(learning_rate=1e-4, warmup_steps=10_000),
        phases=(
            Phase(steps=900_000, sequence_length=128, batch_size=256, max_predictions=20),
            Phase(steps=100_000, sequence_length=512, batch_size=256, max_predictions=76),
        ),
        loop=LoopConfig(log_every=100, evaluate_every=10_000, save_every=5_000),
        evaluation_examples=4096,
    )


def base() -> PretrainConfig:
    """BERT-base: 12 layers, 768 wide, 110 million parameters (arXiv:1810.04805).

    Command: python run_pretrain.py base --corpus DIR
    Hardware: a TPU slice or several GPUs. The published model's held-out masked-LM perplexity is
    3.99, a loss of 1.38 nats (Table 6 of the paper). We have not yet run it to the end.
    """
    return _original_recipe(12, 768)


def large() -> PretrainConfig:
    """BERT-large: 24 layers, 1024 wide, 340 million parameters (arXiv:1810.04805).

    Command: python run_pretrain.py large --corpus DIR
    Hardware: a TPU slice or several GPUs. The published model's held-out masked-LM perplexity is
    3.23, a loss of 1.17 nats (Table 6 of the paper). We have not yet run it to the end.
    """
    return _original_recipe(24, 1024)


def large_lamb() -> PretrainConfig:
    """BERT-large with LAMB in 8,601 steps of 65,536 and then 32,768 sequences (arXiv:1904.00962).

    Command: python run_pretrain.py large-lamb --corpus DIR --loop.accumulation-steps N
    Hardware: a TPU pod slice or many GPUs; choose N so that a micro-batch fits in memory. Steps,
    rates, warmup and square-root decay are those of NVIDIA's scripts for these batch sizes
    (DeepLearningExamples, BERT for PyTorch); the paper itself has 8,599 steps. Each phase has its
    own schedule, and the moments carry over. The paper gives no loss, but an F1 of 90.6 on SQuAD
    1.1. We have not yet run it.
    """
    return PretrainConfig(
        model=_published_model(24, 1024, dtype="bfloat16"),
        optimizer=OptimizerConfig(
            name="lamb", learning_rate=None, warmup_steps=None, decay_power=0.5
        ),
        phases=(
            Phase(
                steps=7_038,
                sequence_length=128,
                batch_size=65_536,
                max_predictions=20,
                learning_rate=6e-3,
                warmup_proportion=0.2843,
            ),
            Phase(
                steps=1_563,
                sequence_length=512,
                batch_size=32_768,
                max_predictions=80,
                learning_rate=4e-3,
                warmup_proportion=0.128,
            ),
        ),
        loop=LoopConfig(log_every=10, evaluate_every=200, save_every=100),
        evaluation_examples=4096,
    )


def base_short() -> PretrainConfig:
    """BERT-base in 70,000 steps of length 128 without sentence pairs: a budget of one day.

    Command: python run_pretrain.py base-short --corpus DIR
    Hardware: eight GPUs or a TPU slice. The settings are those of MosaicBERT's BERT-base baseline
    (arXiv:2312.17482): 30% of the tokens masked, batches of 4,096, no next-sentence objective, rate
    5e-4 with 6% warmup and linear decay to 2%. Their weight decay of 1e-5 per step at the peak rate
    is 0.02 times the rate. No loss was published for it. We have not yet run it.
    """
    return PretrainConfig(
        model=_published_model(12, 768, dtype="bfloat16"),
        data=DataConfig(
            masked_lm_probability=0.3, pairs="full_sentences", short_sequence_probability=0.0
        ),
        optimizer=OptimizerConfig(
            name="adamw",
            learning_rate=5e-4,
            schedule="polynomial",
            warmup_steps=None,
            warmup_proportion=0.06,
            end_proportion=0.02,
            weight_decay=0.02,
            beta_2=0.98,
        ),
        phases=(Phase(steps=70_000, sequence_length=128, batch_size=4_096, max_predictions=38),),
        loop=LoopConfig(log_every=100, evaluate_every=3_500, save_every=3_500),
        evaluation_examples=4096,
    )


def adapt() -> PretrainConfig:
    """Continues pre-training from a checkpoint on text of your own: domain adaptation.

    Command: python run_pretrain.py adapt --init-from DIR --corpus DIR
    Hardware: one GPU; a CPU for small models. DIR is the work folder of a run or the output of
    run_convert.py; the corpus must have been prepared with its vocabulary (--vocab DIR/vocab.txt,
    and --no-lowercase for a cased one). The schedule starts anew and has 12,500 steps, as in
    arXiv:2004.10964, where each has 2,048 sequences; here it is 64.
    """
    return PretrainConfig(
        data=DataConfig(pairs="full_sentences", short_sequence_probability=0.0),
        optimizer=OptimizerConfig(
            learning_rate=1e-4, warmup_steps=None, warmup_proportion=0.06, beta_2=0.98
        ),
        phases=(Phase(steps=12_500, sequence_length=128, batch_size=64, max_predictions=20),),
        loop=LoopConfig(log_every=50, evaluate_every=500, save_every=500),
    )


_FUNCTIONS = (demo, tiny, mini, small, medium, base, large, large_lamb, base_short, adapt)
RECIPES: dict[str, Callable[[], PretrainConfig]] = {
    function.__name__.replace("_", "-"): function for function in _FUNCTIONS
}
