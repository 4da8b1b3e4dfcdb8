"""Options that add to the loss of a fine-tuning."""

import dataclasses
from dataclasses import field


@dataclasses.dataclass(frozen=True)
class RegularizationConfig:
    """What keeps a model from memorizing a small training set.

    Attributes:
      label_smoothing: this share of each target is spread evenly over all classes.
      r_drop: weight of the divergence between the outputs under two dropout masks
        (arXiv:2106.14448); 0 turns it off. Costs a second pass. For classes only.
      adversarial: norm of a step of the word embeddings along the loss's gradient, after which the
        loss is added once more (FGM, arXiv:1605.07725); 0 turns it off. Doubles the work. The norm
        is over a whole micro-batch; in the paper, over each example.
    """

    label_smoothing: float = field(default=0.0, metadata={"interval": "[0, 1)"})
    r_drop: float = field(default=0.0, metadata={"interval": "[0, inf)"})
    adversarial: float = field(default=0.0, metadata={"interval": "[0, inf)"})
