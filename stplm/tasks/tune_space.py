"""What a hyperparameter search may choose: ranges and choices of the fields of ``FinetuneConfig``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from stplm.tasks.finetune_config import FinetuneConfig

if TYPE_CHECKING:
    from optuna.trial import Trial

    from stplm.nn.encoder import Encoder

_DECADE = 10.0


@dataclass(frozen=True)
class Range:
    """From ``low`` to ``high``, both included; whole numbers where both are; ``log``: evenly over orders of magnitude.

    Raises ValueError where ``low`` is above ``high``, or not above 0 with ``log``.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if self.low > self.high or (self.log and self.low <= 0):
            raise ValueError(f"not a range: {self}")

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


Space = Mapping[str, Range | Sequence[Any]]
"""By field of ``FinetuneConfig``: a range, or a sequence of values to choose from (plain values, as JSON has them)."""


def default_space(encoder: Encoder, config: FinetuneConfig) -> dict[str, Range | Sequence[Any]]:
    """What a task needs tuned (learning rate, schedule and frozen layers first; STPLM's authors name these three).

    The learning rate goes a factor of ten either way from that of ``config``. LoRA is a choice where peft is there.
    """
    space: dict[str, Range | Sequence[Any]] = {
        "learning_rate": Range(config.learning_rate / _DECADE, config.learning_rate * _DECADE, log=True),
        "schedule": ["cosine", "linear", "constant"],
        "warm_up": Range(0.0, 0.3),
        "frozen_layers": Range(0, len(encoder.layers())),
        "loss": ["balanced", "focal", "cross_entropy"],
        "weight_decay": Range(1e-4, 0.1, log=True),
        "neighbours": [True, False],
    }
    if find_spec("peft") is not None:
        space["method"] = ["full", "lora"]
    return space


def checked_space(space: Space, config: FinetuneConfig) -> dict[str, Range | Sequence[Any]]:
    """The space, sorted by field and widened to hold the values of ``config``: the search starts from them.

    Raises ValueError for a field that there is not, or for no choice.
    """
    known = {f.name for f in fields(FinetuneConfig)}
    if unknown := sorted(set(space) - known):
        raise ValueError(f"FinetuneConfig has no field {unknown[0]!r}")
    widened: dict[str, Range | Sequence[Any]] = {}
    for name in sorted(space):
        given, value = space[name], getattr(config, name)
        if isinstance(given, Range):
            widened[name] = Range(min(given.low, value), max(given.high, value), given.log and value > 0)
        elif isinstance(given, str) or len(given) == 0:
            raise ValueError(f"{name}: give a Range or a list of values")
        else:
            widened[name] = [*given, *([value] if value not in given else [])]
    return widened


def suggested(trial: Trial, space: Space) -> dict[str, Any]:
    """A trial's values, by field."""
    values: dict[str, Any] = {}
    for name, given in space.items():
        if not isinstance(given, Range):
            values[name] = trial.suggest_categorical(name, list(given))
        elif given.whole:
            values[name] = trial.suggest_int(name, int(given.low), int(given.high), log=given.log)
        else:
            values[name] = trial.suggest_float(name, float(given.low), float(given.high), log=given.log)
    return values
