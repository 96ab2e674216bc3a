"""What a search is of: sections, their labels, and which labelled cells are learnt from, compared on, and held back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stplm.errors import LabelError, SectionError
from stplm.models import Model, load_model
from stplm.spatial.splits import Split, fold_blocks, side_by_side, split_blocks
from stplm.tasks.finetune_config import MIN_TO_HOLD_OUT, FinetuneConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from stplm.progress import Progress


class TuneTask:
    """Model, sections and nested splits of a search.

    Attributes
    ----------
    names
        (n,) object: the class of every cell of all sections, one after the other; None without a label.
    inner
        The splits that trials are compared on.
    outer
        Its test cells are never seen by the search. None where a class has too few labels to hold any back.
    """

    def __init__(
        self,
        model: str | Path | Model,
        tables: Any,
        labels: Any,
        config: FinetuneConfig,
        *,
        folds: int,
        tumour_classes: Sequence[str] | None,
        seed: int,
        device: str,
    ) -> None:
        from stplm.tasks.checkpoints import fingerprint
        from stplm.tasks.finetune_data import labelled_sections, read_tables

        self.model, self.tables = load_model(model), read_tables(tables)
        self.config, self.tumour_classes, self.seed, self.device = config, tumour_classes, seed, device
        encoder = self.model.encoder
        sections, classes = labelled_sections(self.tables, labels, encoder.genes, encoder.config)
        codes = np.concatenate([s.codes for s in sections])
        self.names = np.array([classes[c] if c >= 0 else None for c in codes], dtype=object)
        if any(s.cells.xy is None for s in sections):
            raise SectionError(
                "Cells without positions cannot be split by place, so trials cannot be compared.",
                mend="Leave out the section without positions, or fine-tune with the defaults.",
            )
        xy = side_by_side([s.cells.xy for s in sections if s.cells.xy is not None])
        self.outer, self.inner = _nested(xy, self.names, classes, config, folds, seed)
        self.about: dict[str, Any] = {
            "sections": [fingerprint(s.cells) for s in sections],
            "labels": hashlib.sha256(codes.tobytes() + "\n".join(classes).encode()).hexdigest(),
            "model": self.model.fingerprint(),
            "settings": config.to_dict(),
            "tumour classes": None if tumour_classes is None else sorted(tumour_classes),
            "folds": folds,
            "seed": seed,
        }

    @property
    def n_compared(self) -> int:
        """Number of labelled cells that trials are compared on."""
        return sum(int(split.test.sum()) for split in self.inner)

    def learnt(self, split: Split) -> NDArray[Any]:
        """Names (n,) of the cells that a split learns from."""
        return _only(self.names, split.train)

    def fine_tune(
        self,
        config: FinetuneConfig,
        split: Split,
        progress: Progress,
        on_epoch: Callable[[int, dict[str, float]], None],
    ) -> tuple[Model, float]:
        """A model fine-tuned on one split, and its macro-F1 on the split's test cells."""
        from stplm.tasks.finetune import finetune

        tuned = finetune(
            self.model,
            self.tables,
            self._per_table(_only(self.names, split.train | split.test)),
            config,
            tumour_classes=self.tumour_classes,
            holdout=self._per_table(split.test),
            device=self.device,
            progress=progress,
            on_epoch=on_epoch,
        )
        return tuned, float(tuned.provenance["finetune"]["scores"]["macro_f1"])

    def _per_table(self, values: NDArray[Any]) -> Any:
        parts = np.split(values, np.cumsum([t.n_obs for t in self.tables])[:-1])
        return parts[0] if len(parts) == 1 else parts

    def split_in_words(self) -> str:
        folds = f" in {len(self.inner)} folds" if len(self.inner) > 1 else ""
        squares = f"squares of {self.inner[0].block:g} µm, {self.config.buffer:g} µm apart"
        words = f"trials compared on {self.n_compared} labelled cells{folds}, {squares}"
        if self.outer is None:
            return f"{words}; too few labels to hold back cells that the search never sees"
        return f"{words}; {int(self.outer.test.sum())} other labelled cells never seen by the search"


def _only(names: NDArray[Any], cells: NDArray[np.bool_]) -> NDArray[Any]:
    kept = np.full(len(names), None, dtype=object)
    kept[cells] = names[cells]
    return kept


def _nested(
    xy: NDArray[np.float64],
    names: NDArray[Any],
    classes: list[str],
    config: FinetuneConfig,
    folds: int,
    seed: int,
) -> tuple[Split | None, list[Split]]:
    rules: dict[str, Any] = {"block": config.block, "buffer": config.buffer}

    def inner(known: NDArray[Any]) -> list[Split]:
        if folds == 1:
            return [split_blocks(xy, labels=known, share=config.holdout_share, seed=seed + 1, **rules)]
        return fold_blocks(xy, labels=known, folds=folds, seed=seed + 1, **rules)

    if min(int((names == c).sum()) for c in classes) >= MIN_TO_HOLD_OUT:
        try:
            outer = split_blocks(xy, labels=names, share=config.holdout_share, seed=seed, **rules)
            return outer, inner(_only(names, outer.train))
        except LabelError:
            pass  # Too few to hold out twice; once may do.
    return None, inner(names)
