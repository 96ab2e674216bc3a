"""Two outputs on a cell's vector, trained with the encoder: its type, and whether it is a tumour cell.

Each is a linear layer on the normed vector. With a *skip*, they also see the cell's log-normalised counts, and how well
these fit reference profiles: a linear path around the encoder, for genes that its vector blurs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stplm.evidence import FADE_COUNTS, TARGET_SUM, evidence
from stplm.scheme import Scheme


@dataclass(frozen=True)
class HeadsConfig:
    """What the heads are, in plain values.

    Attributes
    ----------
    dim
        Width of the cell vectors.
    classes, tumour_classes
        Class names in the order of the probabilities; those that are tumour (none is fine).
    scheme
        "joint": one softmax over all classes. "hierarchical": tumour or not first, then the classes of either side
        among themselves, as STPLM does; without a tumour class (or with no other) it is the same as "joint".
    genes
        Ensembl ids of the genes whose counts the skip sees; empty without one.
    profiles
        To how many reference profiles of these genes the fit is seen.
    neighbours
        Whether the vectors are those with neighbours.
    dropout
        On the normed vector and on the skip's inputs, in training.
    log_shift
        (k,) added to the classes' log-probabilities: how their shares in tissue differ from those trained for.
    temperature, tumour_temperature
        Divide the logits of the two outputs, so that their probabilities can be believed.
    """

    dim: int
    classes: tuple[str, ...]
    tumour_classes: tuple[str, ...] = ()
    scheme: Scheme = "joint"
    genes: tuple[str, ...] = ()
    profiles: int = 0
    neighbours: bool = True
    dropout: float = 0.1
    log_shift: tuple[float, ...] = ()
    temperature: float = 1.0
    tumour_temperature: float = 1.0

    def __post_init__(self) -> None:
        for name in ("classes", "tumour_classes", "genes", "log_shift"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.scheme not in get_args(Scheme):
            raise ValueError(f"scheme must be one of {', '.join(get_args(Scheme))}, not {self.scheme!r}")
        if len(set(self.classes)) != len(self.classes) or not set(self.tumour_classes) <= set(self.classes):
            raise ValueError("classes must differ, and the tumour classes must be among them")
        if self.log_shift and len(self.log_shift) != len(self.classes):
            raise ValueError(f"{len(self.log_shift)} shifts for {len(self.classes)} classes")
        if not (self.temperature > 0 and self.tumour_temperature > 0 and 0 <= self.dropout < 1):
            raise ValueError("temperatures must be above 0, dropout from 0 to under 1")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for ``config.json``."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


class ClassHeads(nn.Module):
    """Type and tumour logits of cells. Every row is computed from that cell alone."""

    is_tumour: Tensor
    level_mean: Tensor
    profile: Tensor
    fit_mean: Tensor
    fit_scale: Tensor

    def __init__(self, config: HeadsConfig) -> None:
        super().__init__()
        self.config = config
        k, m, p = len(config.classes), len(config.genes), config.profiles
        self.norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.types = nn.Linear(config.dim, k)
        self.tumour = nn.Linear(config.dim, 1)
        if m:
            self.skip = nn.Linear(m + p, k + 1, bias=False)
            nn.init.zeros_(self.skip.weight)
            self.register_buffer("level_mean", torch.zeros(m))
            self.register_buffer("profile", torch.zeros(m, p))
            self.register_buffer("fit_mean", torch.zeros(p))
            self.register_buffer("fit_scale", torch.ones(p))
        tumour = torch.tensor([c in config.tumour_classes for c in config.classes])
        self.register_buffer("is_tumour", tumour, persistent=False)

    def set(self, **changes: Any) -> None:
        """Change values of the config: temperatures, shift. Raises as :class:`HeadsConfig` does."""
        self.config = replace(self.config, **changes)

    @property
    def hierarchical(self) -> bool:
        """Whether the tumour output decides first."""
        return self.config.scheme == "hierarchical" and 0 < len(self.config.tumour_classes) < len(self.config.classes)

    def forward(self, vectors: Tensor, counts: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
        """Type logits (n, k) and tumour logits (n,).

        ``vectors`` (n, dim); ``counts`` (n, len(genes)) of the skip's genes, NaN where the panel lacks one; ``depth``
        (n,) all counts of the cell: few pull the logits towards no evidence.
        """
        x = self.dropout(self.norm(vectors))
        types, tumour = self.types(x), self.tumour(x).squeeze(1)
        if self.config.genes:
            around = self.skip(self.dropout(self.skip_inputs(counts, depth)))
            types, tumour = types + around[:, :-1], tumour + around[:, -1]
        share = evidence(depth)
        return types * share[:, None], tumour * share

    def skip_inputs(self, counts: Tensor, depth: Tensor) -> Tensor:
        """What the skip sees, (n, len(genes) + profiles), about 0 on average; 0 for a gene that the panel lacks."""
        level = torch.log1p(counts * (TARGET_SUM / depth.clamp(min=1.0))[:, None])
        # The noise of a log-likelihood ratio grows with the root of the depth.
        fit = torch.nan_to_num(counts) @ self.profile / (depth + FADE_COUNTS).sqrt()[:, None]
        return torch.cat([torch.nan_to_num(level - self.level_mean), (fit - self.fit_mean) / self.fit_scale], dim=1)

    def log_proba(self, types: Tensor, tumour: Tensor) -> Tensor:
        """Log-probabilities (n, k) of the classes as trained: before shift and temperature."""
        if not self.hierarchical:
            return F.log_softmax(types, dim=1)
        inside = self._log_softmax_within(types, self.is_tumour) + F.logsigmoid(tumour)[:, None]
        outside = self._log_softmax_within(types, ~self.is_tumour) + F.logsigmoid(-tumour)[:, None]
        return torch.where(self.is_tumour, inside, outside)

    @staticmethod
    def _log_softmax_within(logits: Tensor, members: Tensor) -> Tensor:
        return logits - logits.masked_fill(~members, -torch.inf).logsumexp(1, keepdim=True)
