"""Labelled sections as fine-tuning takes them, and which of their labelled cells are held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from stplm.errors import LabelError
from stplm.io.cell_table import counts_matrix
from stplm.spatial.splits import side_by_side, split_blocks, split_sections
from stplm.tasks.cells import Cells, prepare_cells, table_columns
from stplm.tasks.finetune_config import MIN_LABELS, MIN_TO_HOLD_OUT, FinetuneConfig
from stplm.tasks.labels import check_two_classes, label_names
from stplm.tokens.vocabulary import gene_places

if TYPE_CHECKING:
    from anndata import AnnData

    from stplm.nn.encoder import EncoderConfig

_SECTION_DRAWS = 20


@dataclass(frozen=True)
class LabelledSection:
    """One section. ``counts`` CSR (n, p) of every gene; ``genes`` (p,) their Ensembl ids, "" where unknown.

    ``known`` int64 (m,): the columns of ``counts`` that the encoder reads, in the order of ``cells.rows``.
    ``codes`` int64 (n,): class of each cell, -1 without a label. ``train``, ``test`` bool (n,).
    """

    cells: Cells
    counts: csr_matrix
    genes: NDArray[np.str_]
    known: NDArray[np.int64]
    codes: NDArray[np.int64]
    train: NDArray[np.bool_]
    test: NDArray[np.bool_]

    def columns(self, genes: Sequence[str]) -> NDArray[np.int64]:
        """The column of ``counts`` of each of some genes, -1 where the panel lacks it."""
        return gene_places(genes, self.genes)


def read_tables(tables: Any) -> list[AnnData]:
    """Cell tables of one or several tables, sections or paths."""
    from stplm.io.cell_table import cell_table
    from stplm.io.groups import as_table
    from stplm.io.read import read_section

    several = tables if isinstance(tables, list | tuple) else [tables]
    if not several:
        raise LabelError("There is no section to learn from.", mend="Give at least one section with labels.")
    return [
        cell_table(read_section(t, images=False, labels=False)) if isinstance(t, str | Path) else as_table(t)
        for t in several
    ]


def labelled_sections(
    tables: list[AnnData], labels: Any, genes: list[str], config: EncoderConfig
) -> tuple[list[LabelledSection], list[str]]:
    """Sections, all their labels for training, and the class names.

    ``labels``: an obs column of every table, labels of the only table, or a list with labels for each table, each as
    :func:`stplm.fit_classifier` takes them. Raises LabelError for one class only, or under two labels of a class.
    """
    given = labels if isinstance(labels, list | tuple) and len(tables) > 1 else [labels] * len(tables)
    if len(tables) > 1 and not isinstance(labels, str) and (given is not labels or len(given) != len(tables)):
        raise LabelError(
            "Several sections need labels each.",
            found=f"{len(given)} for {len(tables)} sections" if given is labels else "one set of labels",
            expected="the name of an obs column, or a list with labels for each section",
        )
    names = [
        np.array(label_names(table, of_table), dtype=object) for table, of_table in zip(tables, given, strict=True)
    ]
    everything = np.concatenate(names)
    classes, counts = np.unique(everything[[n is not None for n in everything]].astype(str), return_counts=True)
    check_two_classes(classes.tolist(), int(counts.sum()))
    if few := [str(c) for c, n in zip(classes, counts, strict=True) if n < MIN_LABELS]:
        raise LabelError(
            "Too few labels of a class to fine-tune on.",
            found=f"1 of {', '.join(few)}",
            expected=f"{MIN_LABELS} or more of each class, better {MIN_TO_HOLD_OUT}",
            mend="Label more cells of it, call them another class, or take the few-shot head (stplm.fit_classifier).",
        )
    code_of = {c: i for i, c in enumerate(classes)}
    sections = []
    for table, of_cells in zip(tables, names, strict=True):
        ids = table_columns(table)
        cells = prepare_cells(table, genes, config)
        known = np.flatnonzero((ids != "") & np.isin(ids, genes))
        counts_of = cells.counts if len(known) == table.n_vars else counts_matrix(table)
        codes = np.array([code_of[n] if n is not None else -1 for n in of_cells], dtype=np.int64)
        labelled = codes >= 0
        sections.append(
            LabelledSection(cells, counts_of, ids, known, codes, labelled, np.zeros(len(codes), dtype=bool))
        )
    return sections, classes.tolist()


def hold_out(
    sections: list[LabelledSection], classes: list[str], config: FinetuneConfig, given: Any = None
) -> tuple[list[LabelledSection], str]:
    """Split the labelled cells; and how, in words, for the record.

    ``given``: cells to hold out, chosen by the caller: a bool mask of the only section, or a list of one a section
    (cells near them are not left out then). Raises LabelError where a class would have no cell on either side.
    """
    counts = np.bincount(np.concatenate([s.codes[s.codes >= 0] for s in sections]), minlength=len(classes))
    rarest = int(counts.argmin())
    how = config.holdout
    if given is not None:
        masks = given if isinstance(given, list | tuple) and len(sections) > 1 else [given]
        return _checked(_by_masks(sections, masks), classes), "cells chosen by the caller"
    if how == "none":
        return sections, "none, as asked for"
    if how == "auto" and counts[rarest] < MIN_TO_HOLD_OUT:
        return sections, f"none: only {counts[rarest]} labels of {classes[rarest]}"
    if how in ("auto", "section") and len(sections) > 1:
        for draw in range(_SECTION_DRAWS):
            test = split_sections(len(sections), config.holdout_share, config.seed + draw).test
            split = _by_masks(sections, [np.full(len(s.codes), t) for s, t in zip(sections, test, strict=True)])
            if not _missing(split, classes):
                return split, f"{int(test.sum())} of {len(sections)} sections"
    if how == "section":
        split_sections(len(sections))
        return _checked(split, classes), ""
    if any(s.cells.xy is None for s in sections):
        if how == "block":
            raise LabelError(
                "Squares of tissue cannot be held out where cells have no positions.", mend='Set holdout to "none".'
            )
        return sections, "none: the cells have no positions"
    return _by_blocks(sections, classes, config)


def _by_blocks(
    sections: list[LabelledSection], classes: list[str], config: FinetuneConfig
) -> tuple[list[LabelledSection], str]:
    # The last name is that of cells without a label, which have code -1.
    names = np.array([*classes, None], dtype=object)[np.concatenate([s.codes for s in sections])]
    xy = side_by_side([s.cells.xy for s in sections if s.cells.xy is not None])
    try:
        split = split_blocks(
            xy,
            block=config.block,
            buffer=config.buffer,
            share=config.holdout_share,
            seed=config.seed,
            labels=names,
        )
    except LabelError as error:
        raise LabelError(
            error.problem,
            found=error.found,
            expected=error.expected,
            mend=f'{error.mend} Or set holdout to "none": then training ends after the epochs given, unscored.',
        ) from error
    ends = np.cumsum([len(s.codes) for s in sections])[:-1]
    train, test = np.split(split.train, ends), np.split(split.test, ends)
    parts = [replace(s, train=a, test=b) for s, a, b in zip(sections, train, test, strict=True)]
    return parts, f"squares of {split.block:g} µm, {config.buffer:g} µm apart from what is learnt from"


def _by_masks(sections: list[LabelledSection], masks: Sequence[Any]) -> list[LabelledSection]:
    split = []
    if len(masks) != len(sections):
        raise LabelError("Each section needs its held-out cells.", found=str(len(masks)), expected=str(len(sections)))
    for section, mask in zip(sections, masks, strict=True):
        held = np.asarray(mask)
        if held.dtype != bool or held.shape != section.codes.shape:
            raise LabelError("Held-out cells are told by True or False for every cell.", found=str(held.shape))
        labelled = section.codes >= 0
        split.append(replace(section, train=labelled & ~held, test=labelled & held))
    return split


def _missing(sections: list[LabelledSection], classes: list[str]) -> list[str]:
    both = np.ones(len(classes), dtype=bool)
    for side in ("train", "test"):
        codes = np.concatenate([s.codes[getattr(s, side)] for s in sections])
        both &= np.bincount(codes, minlength=len(classes)) > 0
    return [c for c, there in zip(classes, both, strict=True) if not there]


def _checked(sections: list[LabelledSection], classes: list[str]) -> list[LabelledSection]:
    if missing := _missing(sections, classes):
        raise LabelError(
            "The split leaves a class without cells to learn from or without held-out cells.",
            found=", ".join(missing),
            expected="labelled cells of each class on both sides",
            mend='Label cells of it on the other side, hold out squares (holdout "block") or nothing ("none").',
        )
    return sections


def training_labels(sections: list[LabelledSection], n_classes: int) -> NDArray[np.int64]:
    """Number of labels of each class to learn from, (n_classes,)."""
    return np.bincount(np.concatenate([s.codes[s.train] for s in sections]), minlength=n_classes)
