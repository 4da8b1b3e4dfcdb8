"""The configurations of pre-training and fine-tuning, and the recipes; only scripts use them."""
