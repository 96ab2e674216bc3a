"""Where the heads of fine-tuning start: the best linear heads on the frozen vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from stplm.evidence import PROFILE_WEIGHT
from stplm.nn.class_losses import class_weights, label_probabilities
from stplm.nn.heads import ClassHeads, HeadsConfig
from stplm.tasks.encode import encode
from stplm.tasks.finetune_data import training_labels
from stplm.tasks.finetune_patches import take_columns
from stplm.tasks.linear import fit_logistic
from stplm.tasks.profiles import load_profiles

if TYPE_CHECKING:
    from torch import Tensor

    from stplm.nn.encoder import Encoder
    from stplm.tasks.finetune_config import FinetuneConfig
    from stplm.tasks.finetune_data import LabelledSection

_CELLS = 20_000


def label_weights(sections: list[LabelledSection], n_classes: int, config: FinetuneConfig) -> NDArray[np.float64]:
    """Weight of each class (n_classes,) in the loss."""
    labels = training_labels(sections, n_classes)
    return np.ones(n_classes) if config.loss == "cross_entropy" else class_weights(labels, config.weight_cap)


def trained_shares(sections: list[LabelledSection], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The classes' shares (k,) that the heads take for granted, from their labels and weights."""
    return label_probabilities(training_labels(sections, len(weights)), weights)


def new_heads(
    encoder: Encoder,
    sections: list[LabelledSection],
    classes: list[str],
    tumour: list[str],
    weights: NDArray[np.float64],
    config: FinetuneConfig,
    device: Any = "cpu",
) -> tuple[ClassHeads, list[NDArray[np.float32]]]:
    """Heads fitted to frozen vectors (logistic regression), on the CPU; and the vectors of each section's cells."""
    vectors = [encode(encoder, s.cells, neighbours=config.neighbours, device=device) for s in sections]
    genes = sorted({str(g) for s in sections for g in s.genes if g}) if config.skip else []
    columns, log_ratio = load_profiles().restrict(np.array(genes, dtype=str))
    heads = ClassHeads(
        HeadsConfig(
            dim=encoder.config.dim,
            classes=tuple(classes),
            tumour_classes=tuple(tumour),
            scheme=config.scheme,
            genes=tuple(genes),
            profiles=log_ratio.shape[0] if len(columns) else 0,
            neighbours=config.neighbours,
            dropout=config.dropout,
        )
    )
    random = np.random.default_rng([config.seed, 0])
    with torch.no_grad():
        _set_scales(heads, sections, vectors, columns, log_ratio, random)
        inputs, codes = _labelled_inputs(heads, sections, vectors, random)
        # What surrounds a cell misleads a linear head more often than it helps: only training finds a use for it.
        inputs[:, encoder.config.own_width : encoder.config.dim] = 0
        tumour_codes = heads.is_tumour.numpy()[codes].astype(np.int64)
        coefficients, bias = fit_logistic(inputs, codes, len(classes), weights=weights[codes])
        heads.types.bias.copy_(_tensor(bias))
        width = heads.config.dim
        heads.types.weight.copy_(_tensor(coefficients[:, :width]))
        if config.skip:
            heads.skip.weight[:-1] = _tensor(coefficients[:, width:])
        if 0 < tumour_codes.sum() < len(codes):
            coefficients, bias = fit_logistic(inputs, tumour_codes, 2, weights=weights[codes])
            heads.tumour.bias.copy_(_tensor(2 * bias[1:]))
            heads.tumour.weight.copy_(_tensor(2 * coefficients[1:, :width]))
            if config.skip:
                heads.skip.weight[-1] = _tensor(2 * coefficients[1, width:])
    return heads, vectors


def _set_scales(
    heads: ClassHeads,
    sections: list[LabelledSection],
    vectors: list[NDArray[np.float32]],
    columns: NDArray[np.int64],
    log_ratio: NDArray[np.float64],
    random: np.random.Generator,
) -> None:
    """What the heads see is about 0 on average with a spread of 1, over cells with counts of all sections."""
    share = min(1.0, _CELLS / sum(len(v) for v in vectors))
    normed, inputs = [], []
    if heads.config.profiles:
        centred = log_ratio - log_ratio.mean(0)
        heads.profile[torch.as_tensor(columns)] = _tensor(centred.T)
    for section, of_section in zip(sections, vectors, strict=True):
        cells = np.flatnonzero((random.random(len(of_section)) < share) & (np.diff(section.counts.indptr) > 0))
        x = torch.from_numpy(of_section[cells])
        normed.append(torch.nn.functional.layer_norm(x, (x.shape[1],)))
        inputs.append(_skip_inputs(heads, section, cells))
    x = torch.cat(normed)
    # A column that hardly varies stays small: it holds rounding, not cells.
    spread = x.std(0)
    spread = spread.clamp(min=0.05 * float(spread.median()) + 1e-6)
    heads.norm.weight.copy_(1 / spread)
    heads.norm.bias.copy_(-x.mean(0) / spread)
    if heads.config.genes:
        around, m = torch.cat(inputs), len(heads.config.genes)
        heads.level_mean.copy_(around[:, :m].mean(0))
        heads.fit_mean.copy_(around[:, m:].mean(0))
        heads.fit_scale.copy_((around[:, m:].std(0) + 1e-6) / PROFILE_WEIGHT)


def _labelled_inputs(
    heads: ClassHeads,
    sections: list[LabelledSection],
    vectors: list[NDArray[np.float32]],
    random: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """What the linear layers see of (at most 20,000) cells to learn from, (n, dim + skip), and their classes (n,)."""
    share = min(1.0, _CELLS / sum(int(s.train.sum()) for s in sections))
    inputs, codes = [], []
    counts = training_labels(sections, len(heads.config.classes))
    for section, of_section in zip(sections, vectors, strict=True):
        # Rare classes are kept whole.
        keep = random.random(len(of_section)) < np.maximum(share, 200 / np.maximum(counts[section.codes], 1))
        cells = np.flatnonzero(section.train & keep)
        normed = heads.norm(torch.from_numpy(of_section[cells]))
        inputs.append(torch.cat([normed, _skip_inputs(heads, section, cells)], dim=1).double().numpy())
        codes.append(section.codes[cells])
    return np.concatenate(inputs), np.concatenate(codes)


def _skip_inputs(heads: ClassHeads, section: LabelledSection, cells: NDArray[np.int64]) -> Tensor:
    counts = torch.from_numpy(np.asarray(section.counts[cells].toarray(), dtype=np.float32))
    if not heads.config.genes:
        return counts[:, :0]
    return heads.skip_inputs(take_columns(counts, section.columns(heads.config.genes)), counts.sum(1))


def _tensor(values: NDArray[np.float64]) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32)
