"""The fine-tuning tasks: each is one object of a kind, and each kind is one file."""
