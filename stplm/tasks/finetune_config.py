"""Every hyperparameter of fine-tuning, in one place: default, words, unit and limits of each.

The form, ``stplm finetune --help``, the table in docs/finetuning.md, the YAML file and the search all read them here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from stplm.scheme import Scheme

MAIN, TRAINING, LOSS, HEADS = "Main", "Training", "Loss", "Heads and neighbours"
LORA, HELD_OUT, RUN = "LoRA", "Held-out cells", "Run"
_SETTING = "setting"
MIN_LABELS = 2
MIN_TO_HOLD_OUT = 10
"""With fewer labels of a class, each is worth more in training than as a score."""


@dataclass(frozen=True)
class Setting:
    """What is known of a hyperparameter.

    Attributes
    ----------
    label, help, unit
        Its name, what it does, and what it counts ("" for nothing).
    group
        What it belongs to.
    low, high
        Limits of a number; ``above`` where ``low`` itself is out, ``below`` where ``high`` is. None: no limit.
    choices
        ``{value: words}`` of a choice.
    name, default, kind
        As the field has them; ``kind`` is bool, int, float or str.
    """

    label: str
    help: str
    unit: str = ""
    group: str = TRAINING
    low: float | None = None
    high: float | None = None
    above: bool = False
    below: bool = False
    choices: Mapping[Any, str] | None = None
    name: str = ""
    default: Any = None
    kind: type = str

    def check(self, value: Any) -> None:
        """Raise ValueError where a value makes no sense."""
        if self.choices is not None and value not in self.choices:
            raise ValueError(f"{self.name} must be one of {', '.join(map(str, self.choices))}, not {value!r}")
        if self.low is not None and not (value > self.low if self.above else value >= self.low):
            raise ValueError(f"{self.name} must be {'above' if self.above else 'at least'} {self.low:g}, not {value}")
        if self.high is not None and not (value < self.high if self.below else value <= self.high):
            raise ValueError(f"{self.name} must be {'under' if self.below else 'at most'} {self.high:g}, not {value}")


def _set(default: Any, label: str, about: str, **more: Any) -> Any:
    return field(default=default, metadata={_SETTING: Setting(label, about, **more)})


def _share(default: float, label: str, about: str, **more: Any) -> Any:
    return _set(default, label, about, unit="share", low=0.0, high=1.0, below=True, **more)


@dataclass(frozen=True)
class FinetuneConfig:
    """How to fine-tune; :func:`settings` says what each field does. Raises ValueError for values that make no sense."""

    method: Literal["full", "lora", "head"] = _set(
        "full",
        "What learns",
        "What trains beside the heads: every weight, low-rank changes of the linear layers, or nothing.",
        group=MAIN,
        choices={"full": "The whole model", "lora": "LoRA: small changes of it", "head": "The heads alone"},
    )
    epochs: int = _set(
        8,
        "Epochs",
        "How often each labelled cell is seen, at most; fewer where the held-out score stops rising.",
        unit="epochs",
        group=MAIN,
        low=1,
    )
    minutes: float = _set(
        0.0,
        "Time budget",
        "After this time training ends with the best weights so far; 0 for no limit. With refit, half of it goes to "
        "finding the best epoch.",
        unit="minutes",
        group=MAIN,
        low=0.0,
    )
    frozen_layers: int = _set(
        0,
        "Frozen layers",
        "How many of the encoder's first layers stay as they are, and with the first also the genes' embeddings.",
        unit="layers",
        low=0,
    )
    learning_rate: float = _set(
        3e-4, "Learning rate", "Highest learning rate of the encoder.", unit="per step", low=0.0, above=True
    )
    head_learning_rate: float = _set(
        3e-4, "Heads' learning rate", "Highest learning rate of the heads.", unit="per step", low=0.0, above=True
    )
    schedule: Literal["cosine", "linear", "constant"] = _set(
        "cosine",
        "Schedule",
        "How the learning rates fall after warm-up, to zero at the last epoch.",
        choices={"cosine": "Cosine", "linear": "Linear", "constant": "Constant"},
    )
    warm_up: float = _share(0.05, "Warm-up", "Share of the training in which the learning rates rise from zero.")
    batch: int = _set(
        256,
        "Batch",
        "Labelled cells in a step of the optimiser; those around them come on top.",
        unit="cells",
        low=1,
    )
    patch: int = _set(
        128,
        "Patch",
        "Cells in a contiguous patch of tissue; a batch is several patches.",
        unit="cells",
        low=1,
    )
    neighbours: bool = _set(
        True,
        "Use neighbouring cells",
        "Whether a cell's surroundings count; without them, batches are cells from anywhere.",
        group=HEADS,
    )
    loss: Literal["balanced", "focal", "cross_entropy"] = _set(
        "balanced",
        "Loss",
        "Cross-entropy with rare classes weighing more; the same, and less for cells that are right already; plain.",
        group=LOSS,
        choices={"balanced": "Balanced", "focal": "Balanced, focal", "cross_entropy": "Plain cross-entropy"},
    )
    focal_gamma: float = _set(
        2.0,
        "Focal gamma",
        "How much less the focal loss counts cells that are right already.",
        unit="exponent",
        group=LOSS,
        low=0.0,
    )
    weight_cap: float = _set(
        20.0,
        "Weight cap",
        "How many times a rare class's cell may weigh as much as the commonest's.",
        unit="times",
        group=LOSS,
        low=1.0,
    )
    label_smoothing: float = _share(
        0.0,
        "Label smoothing",
        "Share of the target spread over the other classes, for labels that are not all right.",
        group=LOSS,
    )
    scheme: Scheme = _set(  # noqa: RUF009  (it is a Literal, and this gives a field)
        "hierarchical",
        "Scheme",
        "Tumour or not first and then the type, or all classes in one softmax.",
        group=HEADS,
        choices={"hierarchical": "Tumour or not first", "joint": "All classes at once"},
    )
    skip: bool = _set(True, "Heads see counts too", "Whether the heads also see log-normalised counts.", group=HEADS)
    dropout: float = _share(0.1, "Dropout", "On what the heads see.", group=HEADS)
    thinning: float = _set(
        1.0,
        "Thinning",
        "In training, a share of each cell's molecules drawn from here to 1 is kept, which makes for robustness "
        "against fainter sections; 1 keeps all, which does better on sections alike.",
        unit="share",
        low=0.0,
        high=1.0,
        above=True,
    )
    weight_decay: float = _set(0.01, "Weight decay", "Of AdamW.", unit="per step", low=0.0)
    lora_rank: int = _set(8, "Rank", "Rank of LoRA's changes.", unit="dimensions", group=LORA, low=1)
    lora_alpha: int = _set(
        16, "Alpha", "Scale of LoRA's changes, over the rank.", unit="times the rank's inverse", group=LORA, low=1
    )
    lora_dropout: float = _share(0.0, "LoRA dropout", "On what LoRA's changes see.", group=LORA)
    holdout: Literal["auto", "section", "block", "none"] = _set(
        "auto",
        "Hold out",
        "Which labelled cells are scored: whole sections, whole squares of tissue, or none; auto: by sections where "
        "there are several that hold every class, else by squares, none where a class has under 10 labels. Never "
        "random cells.",
        group=HELD_OUT,
        choices={"auto": "Automatic", "section": "Whole sections", "block": "Squares of tissue", "none": "Nothing"},
    )
    holdout_share: float = _set(
        0.2,
        "Held-out share",
        "Share of the labelled cells to hold out.",
        unit="share",
        group=HELD_OUT,
        low=0.0,
        high=1.0,
        above=True,
        below=True,
    )
    block: float = _set(
        200.0, "Square", "Side of the held-out squares.", unit="µm", group=HELD_OUT, low=0.0, above=True
    )
    buffer: float = _set(
        30.0, "Buffer", "Cells this near to a held-out cell are not learnt from.", unit="µm", group=HELD_OUT, low=0.0
    )
    patience: int = _set(
        4,
        "Patience",
        "Epochs without a better held-out macro-F1 after which training stops.",
        unit="epochs",
        group=HELD_OUT,
        low=1,
    )
    refit: bool = _set(
        True,
        "Train again on all labels",
        "After the best number of epochs is known, train again on all labels, held-out ones too: up to twice as long.",
        group=HELD_OUT,
    )
    checkpoint_every: int = _set(100, "Checkpoint every", "Steps between checkpoints.", unit="steps", group=RUN, low=1)
    precision: Literal["float32", "bfloat16"] = _set(
        "float32",
        "Precision",
        "Of matrix products in training.",
        group=RUN,
        choices={"float32": "Single (float32)", "bfloat16": "Half (bfloat16)"},
    )
    seed: int = _set(0, "Seed", "Of everything drawn at random.", group=RUN, low=0)

    def __post_init__(self) -> None:
        for name, setting in settings().items():
            setting.check(getattr(self, name))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for ``provenance.json``."""
        return asdict(self)

    def identity(self) -> dict[str, Any]:
        """What decides the course of a run: a checkpoint may be gone on with under another time budget."""
        return {name: value for name, value in asdict(self).items() if name != "minutes"}


def labels_missing(counts: Mapping[str, int], least: int = MIN_TO_HOLD_OUT) -> dict[str, int]:
    """How many more labels each class needs to have ``least``; by default, for cells to be held out."""
    return {name: least - n for name, n in counts.items() if n < least}


def settings() -> dict[str, Setting]:
    """What is known of every field of :class:`FinetuneConfig`, in their order."""
    if not _KNOWN:
        hints = get_type_hints(FinetuneConfig)
        _KNOWN.update({f.name: _known(f, hints[f.name]) for f in fields(FinetuneConfig)})
    return _KNOWN


_KNOWN: dict[str, Setting] = {}


def _known(of: Field[Any], hint: Any) -> Setting:
    given: Setting = of.metadata[_SETTING]
    if get_origin(hint) is Literal:
        assert given.choices is not None
        assert set(get_args(hint)) == set(given.choices)
        hint = str
    return replace(given, name=of.name, default=of.default, kind=hint)


def settings_table() -> str:
    """The Markdown table of all settings in docs/finetuning.md."""
    rows = ["| setting | default | unit | what it does |", "|---|---|---|---|"]
    for s in settings().values():
        value = f"`{str(s.default).lower() if s.kind is bool else s.default}`"
        choices = f" ({', '.join(f'`{c}`' for c in s.choices)})" if s.choices else ""
        rows.append(f"| `{s.name}` | {value}{choices} | {s.unit} | {s.help} |")
    return "\n".join(rows)
