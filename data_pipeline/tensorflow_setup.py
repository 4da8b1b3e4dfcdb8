"""TensorFlow, imported when it is first needed, since that takes seconds."""

import os
from typing import Any


def import_tensorflow() -> Any:
    """TensorFlow without its start-up messages and without a GPU, which belongs to the trainer."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # The log level does not silence the remark about oneDNN, which tf.data has no use for.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    return tf
