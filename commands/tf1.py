"""Reads TF1 checkpoints of google-research/bert, by means of TensorFlow."""

from pathlib import Path

import numpy as np

from bert_jax.errors import UserError
from data_pipeline.tensorflow_setup import import_tensorflow


def checkpoint_prefix(folder: Path, name: str | None = None) -> Path:
    """The path of a folder's checkpoint without ".index"; `name` chooses one of several."""
    names = sorted(path.name.removesuffix(".index") for path in folder.glob("*.index"))
    if name is None and len(names) == 1:
        return folder / names[0]
    if name in names:
        return folder / name
    if not names:
        raise UserError(
            f"{folder} holds no TF1 checkpoint (no file *.index); give the folder of "
            "bert_model.ckpt.index"
        )
    raise UserError(f"{folder} holds {', '.join(names)}; add --name with one of them")


def read_tf1(prefix: Path, optimizer_state: bool) -> dict[str, np.ndarray]:
    """The variables of a TF1 checkpoint by name, Adam's moments only with `optimizer_state`."""
    tf = import_tensorflow()
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        names = reader.get_variable_to_shape_map()
        if "_CHECKPOINTABLE_OBJECT_GRAPH" in names:
            raise UserError(
                f"{prefix} is a TF2 checkpoint; give a TF1 one, such as google-research/bert wrote"
            )
        return {
            name: np.asarray(reader.get_tensor(name))
            for name in names
            if optimizer_state or not name.endswith(("/adam_m", "/adam_v"))
        }
    except (tf.errors.OpError, ValueError, RuntimeError, LookupError) as error:
        raise UserError(
            f"{prefix} cannot be read ({str(error).splitlines()[0]}); copy all its files again"
        ) from None
