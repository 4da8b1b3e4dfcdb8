"""From raw text to batches: offline preparation and the tf.data pipeline. Never imports jax."""
