"""Types of arrays."""

import jax
import numpy as np

AnyArray = jax.Array | np.ndarray  # of a batch: on the devices, or still on the host
