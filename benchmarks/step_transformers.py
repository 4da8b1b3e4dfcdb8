"""One side of `peers`: `transformers.BertForPreTraining` with PyTorch, as its users train it.

Fused AdamW without decay of biases and LayerNorm, autocast where the dtype is bfloat16,
`torch.compile` where the task says so. The sequences are full, so no attention mask is given: only
then does scaled dot-product attention take PyTorch's flash kernel. The model computes logits at all
positions, and labels of -100 leave out those that are not predicted.
"""

from typing import Any

import numpy as np
import torch
import transformers

from benchmarks.worker import Missing, TakeSteps, serve, synthetic_batch


def hugging_face_batch(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Our batch as arguments of `transformers.BertForPreTraining`, int64."""
    labels = np.full(batch["input_ids"].shape, -100)
    np.put_along_axis(labels, batch["masked_positions"], batch["masked_labels"], axis=1)
    arguments = {
        "input_ids": batch["input_ids"],
        "token_type_ids": batch["token_type_ids"],
        "labels": labels,
        "next_sentence_label": batch["next_sentence_labels"],
    }
    return {name: value.astype(np.int64) for name, value in arguments.items()}


def fused_adamw(model: torch.nn.Module, learning_rate: float) -> torch.optim.AdamW:
    """AdamW as BERT is trained: decay of 0.01, none of biases and LayerNorm."""
    groups: dict[float, list[torch.Tensor]] = {0.01: [], 0.0: []}
    for name, parameter in model.named_parameters():
        groups[0.0 if name.endswith("bias") or "LayerNorm" in name else 0.01].append(parameter)
    return torch.optim.AdamW(
        [{"params": group, "weight_decay": decay} for decay, group in groups.items()],
        lr=learning_rate,
        eps=1e-6,
        fused=True,
    )


def set_up(task: dict[str, Any]) -> tuple[TakeSteps, dict[str, Any]]:
    """Makes the model and its step.

    Args:
      task: `Workload.task`, with these options: `threads`; `attention`, an implementation that
        `transformers` knows; `compile`, a backend of `torch.compile`.
    """
    if task["platform"] == "gpu" and not torch.cuda.is_available():
        raise Missing("PyTorch finds no GPU (benchmarks.gpu --toy runs on a CPU)")
    device = torch.device("cuda" if task["platform"] == "gpu" else "cpu")
    if threads := task.get("threads"):
        torch.set_num_threads(threads)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # for what autocast leaves in float32
    torch.manual_seed(0)
    config = transformers.BertConfig(
        **task["hugging_face"], attn_implementation=task.get("attention", "sdpa")
    )
    model = transformers.BertForPreTraining(config).to(device).train()
    batch = {
        name: torch.from_numpy(value).to(device)
        for name, value in hugging_face_batch(synthetic_batch(task)).items()
    }
    parameters = list(model.parameters())
    optimizer = fused_adamw(model, task["learning_rate"])

    def loss_of(arguments: dict[str, torch.Tensor]) -> torch.Tensor:
        return model(**arguments).loss

    if backend := task.get("compile"):
        loss_of = torch.compile(loss_of, backend=backend)
    is_bfloat16 = task["model"]["dtype"] == "bfloat16"

    def take_steps(steps: int) -> float:
        for _ in range(steps):
            with torch.autocast(device.type, torch.bfloat16, enabled=is_bfloat16):
                loss = loss_of(batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return loss.item()

    facts = {
        "parameters": sum(parameter.numel() for parameter in parameters),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    return take_steps, facts


def is_out_of_memory(error: Exception) -> bool:
    """Whether the device had too little memory."""
    text = str(error)
    return "out of memory" in text or "CUBLAS_STATUS_ALLOC_FAILED" in text


if __name__ == "__main__":
    serve(set_up, is_out_of_memory)
