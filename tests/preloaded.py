"""What the scripts import sooner or later, for the server that forks to run them."""

import matplotlib.figure  # noqa: F401
import orbax.checkpoint  # noqa: F401
import tensorboardX  # noqa: F401

import commands.finetune.train
import commands.pretrain.train  # noqa: F401
from data_pipeline.tensorflow_setup import import_tensorflow

import_tensorflow()
