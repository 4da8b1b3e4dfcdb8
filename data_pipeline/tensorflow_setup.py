"""TensorFlow, imported when it is first needed, since that takes seconds."""

import os
import sys
import threading
from typing import Any

_one_import = threading.Lock()


def import_tensorflow() -> Any:
    """TensorFlow without its start-up messages, without Keras, and without the trainer's GPU."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # The log level does not silence the remark about oneDNN, which tf.data has no use for.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    with _one_import:
        # TensorFlow imports all of Keras, with scikit-learn and Matplotlib, though it has a lazy
        # loader for it: a third of the time, for what tf.data never uses.
        hidden = not {"keras", "tensorflow"} & sys.modules.keys()
        if hidden:
            sys.modules["keras"] = None  # type: ignore[assignment]
        try:
            import tensorflow as tf
        finally:
            if hidden:
                del sys.modules["keras"]
    tf.config.set_visible_devices([], "GPU")
    return tf
