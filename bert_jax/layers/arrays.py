"""Types of arrays."""

import jax
import numpy as np

AnyArray = jax.Array | np.ndarray  # of a batch or of parameters, which may still be on the host
