"""BERT in plain NumPy and float64, written from the paper for the tests: slow and direct."""

import math
from typing import Any

import numpy as np

Tree = dict[str, Any]


def gelu(x: np.ndarray, kind: str) -> np.ndarray:
    if kind == "gelu_tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def layer_norm(x: np.ndarray, params: Tree, eps: float) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
    return centred / deviation * params["scale"] + params["bias"]


def dense(x: np.ndarray, params: Tree) -> np.ndarray:
    return x @ params["kernel"] + params["bias"]


def softmax(x: np.ndarray) -> np.ndarray:
    exponentials = np.exp(x - x.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def attention(
    x: np.ndarray, keys: np.ndarray, params: Tree, heads: int, small: Tree | None = None
) -> np.ndarray:
    """x [L, H], keys bool [L]: one head after the other; `small` may hold a prefix."""
    query, key, value = (dense(x, params[name]) for name in ("query", "key", "value"))
    if small:
        key = np.concatenate([small["prefix_keys"].T, key])
        value = np.concatenate([small["prefix_values"].T, value])
        keys = np.concatenate([np.ones(small["prefix_keys"].shape[1], bool), keys])
    size = x.shape[-1] // heads
    contexts = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        scores = query[:, part] @ key[:, part].T / math.sqrt(size)
        scores[:, ~keys] = -np.inf
        contexts.append(softmax(scores) @ value[:, part])
    return dense(np.concatenate(contexts, -1), params["output"])


def encode(
    params: Tree,
    config: Any,
    ids: np.ndarray,
    types: np.ndarray,
    mask: np.ndarray,
    adapters: Tree | None = None,
) -> np.ndarray:
    """One sequence: ids, types, mask int [L] -> hidden states [L, H]; `adapters` of each layer."""
    eps, embeddings = config.layer_norm_eps, params["embeddings"]
    x = np.stack(
        [
            embeddings["word_embeddings"][token]
            + embeddings["token_type_embeddings"][kind]
            + embeddings["position_embeddings"][position]
            for position, (token, kind) in enumerate(zip(ids, types, strict=True))
        ]
    )
    x = layer_norm(x, embeddings["norm"], eps)
    for number in range(config.num_hidden_layers):
        layer = params[f"layer_{number}"]
        small = (adapters or {}).get(f"layer_{number}", {})
        attended = attention(
            x, mask > 0, layer["attention"], config.num_attention_heads, small.get("attention")
        )
        if "attention_adapter" in small:
            inner = gelu(dense(attended, small["attention_adapter"]["down"]), config.hidden_act)
            attended = attended + dense(inner, small["attention_adapter"]["up"])
        x = layer_norm(x + attended, layer["attention_norm"], eps)
        hidden = gelu(dense(x, layer["feed_forward"]["intermediate"]), config.hidden_act)
        hidden = dense(hidden, layer["feed_forward"]["output"])
        if "feed_forward_adapter" in small:
            inner = gelu(dense(hidden, small["feed_forward_adapter"]["down"]), config.hidden_act)
            hidden = hidden + dense(inner, small["feed_forward_adapter"]["up"])
        if "output_adapter" in small:
            normed = layer_norm(x + hidden, layer["feed_forward_norm"], eps)
            inner = np.maximum(dense(normed, small["output_adapter"]["down"]), 0.0)
            hidden = hidden + dense(inner, small["output_adapter"]["up"])
        x = layer_norm(x + hidden, layer["feed_forward_norm"], eps)
    return x


def pretraining_loss(params: Tree, config: Any, batch: dict[str, np.ndarray]) -> dict[str, float]:
    """Loss and metrics of a batch of the documented contract."""
    total = correct = weight = next_loss = next_correct = 0.0
    head = params["masked_lm"]
    for row in range(len(batch["input_ids"])):
        hidden = encode(
            params["encoder"],
            config,
            batch["input_ids"][row],
            batch["token_type_ids"][row],
            batch["attention_mask"][row],
        )
        for slot, position in enumerate(batch["masked_positions"][row]):
            if not batch["masked_weights"][row, slot]:
                continue
            x = gelu(dense(hidden[position], head["transform"]), config.hidden_act)
            x = layer_norm(x, head["norm"], config.layer_norm_eps)
            logits = params["encoder"]["embeddings"]["word_embeddings"] @ x + head["bias"]
            label = batch["masked_labels"][row, slot]
            total -= np.log(softmax(logits)[label])
            correct += logits.argmax() == label
            weight += 1
        pooled = np.tanh(dense(hidden[0], params["pooler"]["dense"]))
        logits = dense(pooled, params["next_sentence_head"]["classifier"])
        label = batch["next_sentence_labels"][row]
        next_loss -= np.log(softmax(logits)[label])
        next_correct += logits.argmax() == label
    rows = len(batch["input_ids"])
    masked_lm_loss = total / (weight + 1e-5)
    return {
        "loss": masked_lm_loss + next_loss / rows,
        "masked_lm_loss": masked_lm_loss,
        "masked_lm_accuracy": correct / weight,
        "next_sentence_loss": next_loss / rows,
        "next_sentence_accuracy": next_correct / rows,
    }
