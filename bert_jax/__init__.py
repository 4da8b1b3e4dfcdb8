"""BERT in JAX and Flax: encoder, heads, optimizer and training loop. Never imports tensorflow."""

__version__ = "0.1.0"
