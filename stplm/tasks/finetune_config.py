"""Every hyperparameter of fine-tuning, in one place: the form, the YAML file and the search read it from here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from stplm.scheme import Scheme


@dataclass(frozen=True)
class FinetuneConfig:
    """How to fine-tune. Raises ValueError for values that make no sense."""

    method: Literal["full", "lora", "head"] = "full"
    """What trains beside the heads: every weight, low-rank changes of the linear layers, or nothing."""
    frozen_layers: int = 0
    """How many of the encoder's first layers stay as they are, and with the first also the genes' embeddings."""
    learning_rate: float = 3e-4
    """Highest learning rate of the encoder."""
    head_learning_rate: float = 3e-4
    """Highest learning rate of the heads."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rates fall after warm-up, to zero at the last epoch."""
    warm_up: float = 0.05
    """Share of the training in which the learning rates rise from zero."""
    epochs: int = 8
    """How often each labelled cell is seen, at most; fewer where the held-out score stops rising."""
    batch: int = 256
    """Labelled cells in a step of the optimiser; those around them come on top."""
    patch: int = 128
    """Cells in a contiguous patch of tissue; a batch is several patches."""
    neighbours: bool = True
    """Whether a cell's surroundings count; without them, batches are cells from anywhere."""
    loss: Literal["balanced", "focal", "cross_entropy"] = "balanced"
    """Cross-entropy with rare classes weighing more; the same, and less for cells that are right already; plain."""
    focal_gamma: float = 2.0
    """How much less the focal loss counts cells that are right already."""
    weight_cap: float = 20.0
    """How many times a rare class's cell may weigh as much as the commonest's."""
    label_smoothing: float = 0.0
    """Share of the target spread over the other classes, for labels that are not all right."""
    scheme: Scheme = "hierarchical"
    """Tumour or not first and then the type, or all classes in one softmax."""
    skip: bool = True
    """Whether the heads also see log-normalised counts."""
    dropout: float = 0.1
    """On what the heads see."""
    thinning: float = 1.0
    """In training, a share of each cell's molecules drawn from here to 1 is kept, which makes for robustness against
    fainter sections; 1 keeps all, which does better on sections alike."""
    weight_decay: float = 0.01
    """Of AdamW."""
    lora_rank: int = 8
    """Rank of LoRA's changes."""
    lora_alpha: int = 16
    """Scale of LoRA's changes, over the rank."""
    lora_dropout: float = 0.0
    """On what LoRA's changes see."""
    holdout: Literal["auto", "section", "block", "none"] = "auto"
    """Which labelled cells are scored: whole sections, whole squares of tissue, or none; auto: by sections where there
    are several that hold every class, else by squares, none where a class has under 10 labels. Never random cells."""
    holdout_share: float = 0.2
    """Share of the labelled cells to hold out."""
    block: float = 200.0
    """Side of the held-out squares in µm."""
    buffer: float = 30.0
    """Cells this near (µm) to a held-out cell are not learnt from."""
    patience: int = 4
    """Epochs without a better held-out macro-F1 after which training stops."""
    refit: bool = True
    """After the best number of epochs is known, train again on all labels, held-out ones too: up to twice as long."""
    checkpoint_every: int = 100
    """Steps between checkpoints."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of matrix products in training."""
    seed: int = 0
    """Of everything drawn at random."""

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            choices, value = get_args(hint), getattr(self, name)
            if get_origin(hint) is Literal and value not in choices:
                raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, not {value!r}")
        for name in ("epochs", "batch", "patch", "lora_rank", "lora_alpha", "patience", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")
        for name in ("learning_rate", "head_learning_rate", "block", "thinning"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("frozen_layers", "weight_decay", "buffer", "focal_gamma"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, but is {getattr(self, name)}")
        for name in ("warm_up", "label_smoothing", "dropout", "lora_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be from 0 to under 1, not {getattr(self, name)}")
        if self.weight_cap < 1 or self.thinning > 1 or not 0 < self.holdout_share < 1:
            raise ValueError("weight_cap must be 1 or more, thinning at most 1, holdout_share between 0 and 1")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for ``provenance.json``."""
        return asdict(self)
