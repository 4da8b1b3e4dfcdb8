"""From raw text to batches: offline preparation and the tf.data input pipeline. Never imports jax."""
