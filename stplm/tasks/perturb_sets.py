"""Which genes are perturbed together: one at a time, in named groups, in pairs, or each gene that the model knows."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from stplm.errors import GeneError, StplmError

if TYPE_CHECKING:
    from anndata import AnnData

Combine = Literal["each", "together", "pairs"]
ALL = "all"
_JOIN = " + "


@dataclass(frozen=True)
class GeneSets:
    """Sets of genes that are perturbed at once.

    ``names`` of the sets; set i has the columns ``columns[offsets[i]:offsets[i + 1]]`` (int64, positions among the
    genes that the model knows).
    """

    names: tuple[str, ...]
    columns: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, groups: Mapping[str, Sequence[int]]) -> GeneSets:
        """From ``{name: columns}``."""
        offsets = np.concatenate([[0], np.cumsum([len(g) for g in groups.values()])]).astype(np.int64)
        flat = np.array([c for g in groups.values() for c in g], dtype=np.int64)
        return cls(tuple(groups), flat, offsets)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Genes in each set, (n_sets,)."""
        return np.diff(self.offsets)

    def members(self, i: int) -> NDArray[np.int64]:
        """Columns of one set."""
        return self.columns[self.offsets[i] : self.offsets[i + 1]]

    def take(self, which: Sequence[int] | NDArray[np.int64]) -> GeneSets:
        """Some of the sets."""
        return GeneSets.of({self.names[i]: self.members(i).tolist() for i in which})

    def index(self, n_columns: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The other way round: the sets of column j are ``sets[offsets[j]:offsets[j + 1]]``; ``(sets, offsets)``."""
        order = np.argsort(self.columns, kind="stable")
        sets = np.repeat(np.arange(len(self)), self.sizes)[order]
        return sets, np.searchsorted(self.columns[order], np.arange(n_columns + 1)).astype(np.int64)


def gene_sets(
    table: AnnData,
    known: NDArray[np.int64],
    genes: str | Sequence[str] | Mapping[str, Sequence[str]],
    combine: str = "each",
) -> GeneSets:
    """What ``genes`` and ``combine`` of :func:`stplm.perturb` mean in a table.

    Parameters
    ----------
    known
        (m,) positions in the table of the genes that the model knows, in the order of its columns.
    genes
        ``"all"``; symbols or Ensembl ids; or ``{name: genes}``, groups that are perturbed at once.
    combine
        Of a list: "each" gene alone, all "together", or all "pairs".

    Raises
    ------
    GeneError
        A gene is not in the panel, or not known to the model; there is none.
    """
    if combine not in get_args(Combine):
        raise StplmError(f"Genes cannot be combined {combine!r}.", expected=", ".join(get_args(Combine)))
    symbols = [str(table.var_names[i]) for i in known]
    if isinstance(genes, str) and genes == ALL:
        if combine != "each":
            raise StplmError(
                "All genes of the panel can only be perturbed one at a time.", found=f"combine={combine!r}"
            )
        return GeneSets.of({name: [i] for i, name in enumerate(symbols)})
    place = _places(table, known)
    if isinstance(genes, Mapping):
        return GeneSets.of({str(name): _columns(place, group, table) for name, group in genes.items()})
    columns = _columns(place, [genes] if isinstance(genes, str) else genes, table)
    how = cast(Combine, combine)
    if how == "together":
        groups: list[tuple[int, ...]] = [tuple(columns)]
    else:
        groups = list(itertools.combinations(columns, 2 if how == "pairs" else 1))
    if not groups:
        raise GeneError("Pairs need two genes or more.", found=symbols[columns[0]], mend="Name another gene.")
    return GeneSets.of({_JOIN.join(symbols[c] for c in group): group for group in groups})


def _places(table: AnnData, known: NDArray[np.int64]) -> dict[str, int]:
    from stplm.tasks.cells import table_columns

    ids = table_columns(table)[known]
    by_id = {str(name): i for i, name in enumerate(ids) if name}
    return by_id | {str(table.var_names[t]).upper(): i for i, t in enumerate(known)}


def _columns(place: Mapping[str, int], genes: Sequence[str], table: AnnData) -> list[int]:
    names = [str(g).strip() for g in genes]
    if missing := [n for n in names if n.upper() not in place]:
        panel = {str(v).upper() for v in table.var_names}
        inside = [n for n in missing if n.upper() in panel]
        raise GeneError(
            "The model does not know this gene." if inside else "This gene is not in the panel.",
            found=", ".join(inside or missing),
            expected=_like((inside or missing)[0], list(place)),
            mend="Adapt the model to this section (stplm.adapt)." if inside else "Choose genes of the panel.",
        )
    columns = list(dict.fromkeys(place[n.upper()] for n in names))
    if not columns:
        raise GeneError("No gene was named.", mend="Name one or more genes of the panel.")
    return columns


def _like(name: str, names: list[str]) -> str | None:
    import difflib

    close = difflib.get_close_matches(name.upper(), names, 3, 0.5)
    return f"a gene of the panel, such as {', '.join(close)}" if close else None
