"""The formats that models can be exported to, by name: `--export NAME DIR` and run_convert.py."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from rich.console import Console

from bert_jax.models.config import MethodConfig, can_be_merged


class Write(Protocol):
    """Writes a checkpoint of ours as a folder of another format."""

    def __call__(
        self,
        checkpoint: Path,
        output: Path,
        console: Console,
        *,
        step: int | None = None,
        class_name: str | None = None,
    ) -> None: ...


class Exporter(NamedTuple):
    """A format.

    Attributes:
      why_not: says why a model cannot be written, None if it can: given how it was fine-tuned, its
        task's name, and the class of `transformers` with the task's output layer ("" for none).
      write: writes a checkpoint, see `export.to_hugging_face`.
    """

    why_not: Callable[[MethodConfig, str, str], str | None]
    write: Write


def _why_not_hugging_face(method: MethodConfig, task: str, class_name: str) -> str | None:
    if not can_be_merged(method):
        return f"transformers has no model with {method.name}"
    if not class_name:
        return f"transformers has no model with the output layer of {task}"
    return None


def _write_hugging_face(
    checkpoint: Path,
    output: Path,
    console: Console,
    *,
    step: int | None = None,
    class_name: str | None = None,
) -> None:
    from commands.export import to_hugging_face  # imports jax

    to_hugging_face(checkpoint, output, console, step=step, class_name=class_name)


EXPORTERS = {"hf": Exporter(_why_not_hugging_face, _write_hugging_face)}
