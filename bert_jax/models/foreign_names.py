"""What others call the parameters of a family: `transformers`, and the original of TensorFlow 1."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

from bert_jax.errors import UserError

Layout = Literal["hugging_face", "tf1"]


class Row(NamedTuple):
    """One parameter under its names.

    Attributes:
      ours: path in the tree of parameters; its first word is the part it belongs to.
      hugging_face: name in a state dict of `transformers`.
      tf1: variable of the original; empty where there is none.
      shape: of ours; None for the number of classes.
      transposed: the layouts that store it with its two axes swapped.
    """

    ours: str
    hugging_face: str
    tf1: str
    shape: tuple[int | None, ...]
    transposed: tuple[Layout, ...] = ()

    def name(self, layout: Layout) -> str:
        return self.hugging_face if layout == "hugging_face" else self.tf1


def dense(
    ours: str, hugging_face: str, tf1: str, inputs: int, outputs: int | None
) -> tuple[Row, Row]:
    """A dense layer: kernels are [in, out] in ours and TF1, [out, in] in torch."""
    return (
        Row(
            f"{ours}/kernel",
            f"{hugging_face}.weight",
            f"{tf1}/kernel",
            (inputs, outputs),
            ("hugging_face",),
        ),
        Row(f"{ours}/bias", f"{hugging_face}.bias", f"{tf1}/bias", (outputs,)),
    )


def norm(ours: str, hugging_face: str, tf1: str, size: int) -> tuple[Row, Row]:
    """LayerNorm: scale and bias, weight and bias, gamma and beta."""
    return (
        Row(f"{ours}/scale", f"{hugging_face}.weight", f"{tf1}/gamma", (size,)),
        Row(f"{ours}/bias", f"{hugging_face}.bias", f"{tf1}/beta", (size,)),
    )


@dataclasses.dataclass(frozen=True)
class ForeignNames:
    """A family in `transformers`, and in the TensorFlow 1 of the original where there was one.

    Attributes:
      rows: (config) -> a row for each parameter, those of all heads among them.
      classes: the parts of each class of `transformers`, which has the same parts here; the larger
        ones first, of which the first is that of pre-training.
      stem: what the names of its classes begin with, such as "Bert".
      prefix: what the names of the encoder begin with, such as "bert."; the class without any head
        leaves it out.
      config_from: the content of a `config.json`, whose model type is the family's, -> config.
      config_to: the inverse, without the model type.
      tied: names of copies of a tied parameter, and of the one that they must equal.
      legacy: patterns of names that old versions wrote, and today's.
    """

    rows: Callable[[Any], Iterable[Row]]
    classes: Mapping[str, tuple[str, ...]]
    stem: str
    prefix: str
    config_from: Callable[[Mapping[str, Any]], Any]
    config_to: Callable[[Any], dict[str, Any]]
    tied: Mapping[str, str]
    legacy: tuple[tuple[re.Pattern[str], str], ...] = ()

    @property
    def bare(self) -> str:
        """The class without any head."""
        return f"{self.stem}Model"

    def largest_class(self, parts: set[str]) -> str:
        """The largest class that has all its parts among `parts`."""
        fitting = (name for name, needed in self.classes.items() if set(needed) <= parts)
        return next(fitting, self.bare)


def numbers_of(config_class: type[Any], values: Mapping[str, Any]) -> dict[str, int | float]:
    """The fields of a configuration that are numbers and among `values`, their types checked."""
    known = {}
    for field in dataclasses.fields(config_class):
        if field.name in values and field.type in (int, float):
            value, kind = values[field.name], float if field.type is float else int
            if isinstance(value, bool) or not isinstance(value, (int, kind)):
                raise UserError(f"{field.name} is {value!r}; it must be of type {kind.__name__}")
            known[field.name] = kind(value)
    return known
