"""What is added to the loss of a fine-tuning, as options."""

import dataclasses
from dataclasses import field


@dataclasses.dataclass(frozen=True)
class RegularizationConfig:
    """What keeps a model from learning a small training set by heart.

    Attributes:
      label_smoothing: this share of each target is spread evenly over all classes.
      r_drop: weight of the divergence between the outputs under two dropout masks
        (arXiv:2106.14448); 0 leaves it out. Costs a second pass. For classes only.
      adversarial: norm of a step of the word embeddings along the loss's gradient, after which the
        loss counts once more (FGM, arXiv:1605.07725); 0 leaves it out. Doubles the work. The norm
        is that of the table's gradient of a whole micro-batch, in the paper that of an example.
    """

    label_smoothing: float = field(default=0.0, metadata={"interval": "[0, 1)"})
    r_drop: float = field(default=0.0, metadata={"interval": "[0, inf)"})
    adversarial: float = field(default=0.0, metadata={"interval": "[0, inf)"})
