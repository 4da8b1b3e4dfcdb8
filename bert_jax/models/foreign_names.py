"""What `transformers` and the original code, of TensorFlow 1, call the parameters of a family."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

from bert_jax.errors import UserError

Layout = Literal["hugging_face", "tf1"]


class Row(NamedTuple):
    """One parameter under its names."""

    ours: str  # path in the tree of parameters; its first part is the part of the model
    hugging_face: str  # in a state dict of `transformers`
    tf1: str  # variable of the original; empty if there is none
    shape: tuple[int | None, ...]  # of ours; None for the number of classes
    transposed: tuple[Layout, ...] = ()  # the layouts that store it with its two axes swapped

    def name(self, layout: Layout) -> str:
        return self.hugging_face if layout == "hugging_face" else self.tf1


def dense(
    ours: str, hugging_face: str, tf1: str, inputs: int, outputs: int | None
) -> tuple[Row, Row]:
    """A dense layer: kernels are [in, out] in ours and TF1, [out, in] in torch."""
    kernel = f"{ours}/kernel", f"{hugging_face}.weight", f"{tf1}/kernel"
    bias = f"{ours}/bias", f"{hugging_face}.bias", f"{tf1}/bias"
    return Row(*kernel, (inputs, outputs), ("hugging_face",)), Row(*bias, (outputs,))


def norm(ours: str, hugging_face: str, tf1: str, size: int) -> tuple[Row, Row]:
    """LayerNorm: scale and bias, weight and bias, gamma and beta."""
    return (
        Row(f"{ours}/scale", f"{hugging_face}.weight", f"{tf1}/gamma", (size,)),
        Row(f"{ours}/bias", f"{hugging_face}.bias", f"{tf1}/beta", (size,)),
    )


@dataclasses.dataclass(frozen=True)
class ForeignNames:
    """A family in `transformers` and, where there was one, in the original code.

    Attributes:
      rows: (config) -> a row for each parameter, including those of all heads.
      classes: the parts of each class of `transformers`, larger classes first; the first one is
        that of pre-training.
      stem: prefix of the names of its classes, such as "Bert".
      prefix: prefix of the encoder's tensors, such as "bert."; the class without heads omits it.
      config_from: content of a `config.json` of this family -> configuration.
      config_to: the inverse, without the model type.
      tied: copy of a tied parameter -> the one that it must equal.
      legacy: patterns of names that old versions wrote, and their replacements.
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
        """The largest class whose parts are all among `parts`."""
        fitting = (name for name, needed in self.classes.items() if set(needed) <= parts)
        return next(fitting, self.bare)


def numbers_of(config_class: type[Any], values: Mapping[str, Any]) -> dict[str, int | float]:
    """The numeric fields of a configuration that `values` has, with their types checked."""
    known = {}
    for field in dataclasses.fields(config_class):
        if field.name in values and field.type in (int, float):
            value, kind = values[field.name], float if field.type is float else int
            if isinstance(value, bool) or not isinstance(value, (int, kind)):
                raise UserError(f"{field.name} is {value!r}; it must be of type {kind.__name__}")
            known[field.name] = kind(value)
    return known
