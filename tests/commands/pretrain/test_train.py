"""The last lines of a run."""

import dataclasses

from bert_jax.objectives.objective import Metric
from commands.pretrain.train import held_out_lines, speed_lines
from configs.pretrain import Phase, PretrainConfig
from data_pipeline.pretraining.batches import DataConfig


def a_row(step, sequences, **others):
    return {
        "step": step,
        "split": "train",
        "sequences_per_second": sequences,
        "tokens_per_second": 100.0 * sequences,
        "padding_share": 0.125,
        "input_wait_share": 0.004,
        "goodput": step / 100,
    } | others


def a_config(*steps):
    sizes = {"sequence_length": 128, "batch_size": 8, "max_predictions": 20}
    return PretrainConfig(phases=tuple(Phase(steps=number, **sizes) for number in steps))


def test_the_speed_of_each_phase():
    untimed = {"step": 1, "split": "train", "loss": 1.0}
    rows = [untimed, a_row(10, 1000.0), a_row(20, 3000.0), a_row(30, 2000.0), a_row(40, 50.0)]
    first, second = speed_lines(rows, a_config(30, 20))
    assert first == (
        "speed, phase 0    2,000 sequences/s, 200,000 tokens/s, 12.5% padding, "
        "0.4% of the time waiting for input"
    )
    assert second.startswith("speed, phase 1    50 sequences/s, 5,000 tokens/s")
    assert second.endswith("; goodput 40.0%")


def test_packed_rows_are_called_rows():
    packed = DataConfig(pairs="doc_sentences", packed=True)
    config = dataclasses.replace(a_config(10), data=packed)
    (line,) = speed_lines([a_row(10, 1000.0)], config)
    assert line.startswith("speed             1,000 rows/s, 100,000 tokens/s")


def test_a_known_peak_adds_the_share_of_it():
    (line,) = speed_lines([a_row(10, 1000.0, mfu=0.431)], a_config(10))
    assert line.startswith("speed             1,000 sequences/s")
    assert line.endswith("waiting for input, MFU 43.1%; goodput 10.0%")


def test_the_held_out_figures_are_called_as_the_objective_says():
    metrics = {
        "masked_lm_loss": Metric("masked-LM loss"),
        "guess_loss": Metric("of guesses"),
        "guess_accuracy": Metric("right guesses", of_a_constant=0.25),
        "other_accuracy": Metric("others"),
    }
    rows = [
        {"step": step, "split": "eval"} | dict.fromkeys(metrics, value)
        for step, value in ((0, 6.0), (9, 4.5))
    ]
    assert list(held_out_lines(rows, metrics, 5.0)) == [
        "Held-out          step        0  step        9",
        "masked-LM loss            6.000          4.500   unigram entropy 5.000: "
        "0.500 nats below it",
        "right guesses             6.000          4.500   a constant answer 0.25",
        "others                    6.000          4.500",
    ]


def test_a_run_without_figures_says_so():
    assert list(speed_lines([], a_config(10))) == []
    assert list(held_out_lines([], {}, 5.0)) == ["No held-out figures: evaluation_examples is 0."]
