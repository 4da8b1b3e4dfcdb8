"""Records `tests/golden/small.npz`: sixty steps of a tiny BERT by another implementation.

Model and gradients are `transformers`' BertForPreTraining in torch, the optimizer is the original's
`optimization.py` written out below; everything in float64. Only the name table is ours. It needs
the extra `parity`:

    python -m tests.parity.record
    python -m tests.parity.record FOLDER    # checks itself against the original's own recording

The second form replays the recording in FOLDER (the original run in TF 1.15, described in
tests/golden/README.md) and prints the largest relative error of the loss per ten steps.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertForPreTraining

from bert_jax.interchange.names import to_tensors
from tests.golden.recording import SMALL, Recording, original

CONFIG = {
    "vocab_size": 96,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "max_position_embeddings": 24,
    "type_vocab_size": 2,
    "initializer_range": 0.1,  # large enough for so narrow a model that both GELUs differ
}
OPTIMIZER = {
    "learning_rate": 1e-3,
    "num_train_steps": 60,
    "num_warmup_steps": 10,
    "weight_decay_rate": 0.01,
    "beta_1": 0.9,
    "beta_2": 0.999,
    "epsilon": 1e-6,
    "clip_norm": 1.0,
}


def torch_model(config: dict) -> BertForPreTraining:
    """The model; "gelu" is the tanh form, as in the original since February 2019."""
    values = config | {"hidden_act": "gelu_new", "layer_norm_eps": 1e-12}
    model = BertForPreTraining(BertConfig(**values, attn_implementation="eager")).double().eval()
    model.bert.embeddings.word_embeddings.padding_idx = None  # which would drop its gradient
    return model


def losses(model: BertForPreTraining, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Outputs and losses of a batch, the losses as in the original's `run_pretraining.py`."""
    hidden, pooled = model.bert(
        batch["input_ids"],
        attention_mask=batch["attention_mask"],
        token_type_ids=batch["token_type_ids"],
    )[:2]
    rows = torch.arange(len(hidden))[:, None]
    log_probs = model.cls.predictions(hidden[rows, batch["masked_positions"]]).log_softmax(-1)
    next_log_probs = model.cls.seq_relationship(pooled).log_softmax(-1)
    negative = -log_probs.gather(-1, batch["masked_labels"][..., None])[..., 0]
    weights = batch["masked_weights"]
    masked_lm = (negative * weights).sum() / (weights.sum() + 1e-5)
    labels = batch["next_sentence_labels"]
    next_sentence = -next_log_probs.gather(-1, labels[:, None]).mean()
    return masked_lm, next_sentence, hidden, pooled, log_probs, next_log_probs


def train(
    model: BertForPreTraining, optimizer: dict, batches: list[dict[str, torch.Tensor]]
) -> tuple[list[list[float]], dict[str, np.ndarray]]:
    """All steps: (a row of losses and gradient norm per step, the first step's outputs)."""
    named = dict(model.named_parameters())
    moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in named.items()}
    beta_1, beta_2 = optimizer["beta_1"], optimizer["beta_2"]
    warmup, total = optimizer["num_warmup_steps"], optimizer["num_train_steps"]
    log, first = [], {}
    for step in range(total):
        masked_lm, next_sentence, *outputs = losses(model, batches[step % len(batches)])
        if step == 0:
            names = ("sequence_output", "pooled_output", "mlm_log_probs", "nsp_log_probs")
            first = {n: x.detach().numpy() for n, x in zip(names, outputs, strict=True)}
            first["mlm_log_probs_first8"] = first.pop("mlm_log_probs").reshape(
                -1, model.config.vocab_size
            )[:8]
        loss = masked_lm + next_sentence
        gradients = torch.autograd.grad(loss, list(named.values()))
        norm = torch.sqrt(sum((g**2).sum() for g in gradients))
        log.append([x.item() for x in (loss, masked_lm, next_sentence, norm)])
        rate = optimizer["learning_rate"] * (step / warmup if step < warmup else 1 - step / total)
        scale = optimizer["clip_norm"] / max(norm.item(), optimizer["clip_norm"])
        with torch.no_grad():
            for (name, parameter), gradient in zip(named.items(), gradients, strict=True):
                mean, square = moments[name]
                gradient = gradient * scale
                mean.mul_(beta_1).add_((1 - beta_1) * gradient)
                square.mul_(beta_2).add_((1 - beta_2) * gradient**2)
                update = mean / (square.sqrt() + optimizer["epsilon"])
                if "LayerNorm" not in name and "bias" not in name:
                    update = update + optimizer["weight_decay_rate"] * parameter
                parameter -= rate * update
    return log, first


def replay(recording: Recording) -> tuple[list[list[float]], dict[str, np.ndarray], dict]:
    """Trains on a recording's batches from its initial weights: log, first outputs, weights."""
    model = torch_model(recording.bert_config)
    tensors = to_tensors(recording.initial, "hugging_face", recording.config)
    model.load_state_dict(
        {name: torch.tensor(x).double() for name, x in tensors.items()}, strict=False
    )
    batches = []
    for batch in recording.batches:
        tensors = {name: torch.tensor(np.asarray(x)).long() for name, x in batch.items()}
        batches.append(tensors | {"masked_weights": tensors["masked_weights"].double()})
    log, first = train(model, recording.optimizer, batches)
    return log, first, {name: p.detach().numpy() for name, p in model.named_parameters()}


def make_batches(random: np.random.Generator) -> dict[str, np.ndarray]:
    """Four batches of random tokens with padding, two segments and unused prediction slots."""
    count, rows, length, slots = 4, 8, CONFIG["max_position_embeddings"], 4
    lengths = random.integers(12, length + 1, (count, rows, 1))
    mask = np.arange(length) < lengths
    used = np.arange(slots) < random.integers(2, slots + 1, (count, rows, 1))
    positions = np.sort(
        random.permuted(np.tile(np.arange(1, 11), (count, rows, 1)), axis=-1)[..., :slots]
    )
    return {
        "input_ids": random.integers(5, CONFIG["vocab_size"], mask.shape) * mask,
        "attention_mask": mask.astype(int),
        "token_type_ids": (np.arange(length) >= lengths // 2) * mask,
        "masked_positions": positions * used,
        "masked_labels": random.integers(5, CONFIG["vocab_size"], used.shape) * used,
        "masked_weights": used.astype(int),
        "next_sentence_labels": random.integers(0, 2, (count, rows)),
    }


def main(arguments: list[str]) -> None:
    if arguments:
        recording = original(Path(arguments[0]))
        log, _, _ = replay(recording)
        error = np.abs(np.array(log)[:, 0] / recording.log[:, 0] - 1)
        print("largest relative error of the loss per ten steps:")
        print(" ".join(f"{error[start : start + 10].max():.1e}" for start in range(0, 60, 10)))
        return
    random = np.random.default_rng(0)
    torch.manual_seed(0)
    model = torch_model(CONFIG)
    initial = {}
    for name, parameter in model.named_parameters():
        values = parameter.detach().numpy()
        if values.ndim == 2:  # normal, cut at two deviations
            values = random.normal(0, 1, values.shape)
            while (far := np.abs(values) > 2).any():
                values[far] = random.normal(0, 1, far.sum())
            values = values * CONFIG["initializer_range"]
        initial[name] = values.astype(np.float32)
    batches = {name: x.astype(np.int16) for name, x in make_batches(random).items()}
    recording = Recording.from_arrays(
        CONFIG, OPTIMIZER, initial, batches, np.zeros((60, 4)), {}, initial
    )
    log, first, final = replay(recording)
    np.savez_compressed(
        SMALL,
        config=json.dumps({"config": CONFIG, "optimizer": OPTIMIZER}),
        log=np.array(log),
        **{f"initial/{name}": x for name, x in initial.items()},
        **{f"batches/{name}": x for name, x in batches.items()},
        **{f"first_step/{name}": x.astype(np.float32) for name, x in first.items()},
        **{f"final/{name}": x.astype(np.float32) for name, x in final.items()},
    )
    print(f"{SMALL}: {SMALL.stat().st_size:,} bytes, loss {log[0][0]:.4f} to {log[-1][0]:.4f}")


if __name__ == "__main__":
    main(sys.argv[1:])
