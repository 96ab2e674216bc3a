"""The vendor's human Xenium gene panels: which exist, which genes they have, and which one a section was made with."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from stplm.errors import GeneError
from stplm.paths import resource
from stplm.tokens.vocabulary import gene_records


@dataclass(frozen=True)
class PanelGuess:
    """Which panel a set of genes comes from.

    Attributes
    ----------
    name, display_name
        Of the panel, e.g. "hBreast" and "Human Breast"; both "" when no gene is in any panel.
    shared
        Number of genes in both.
    of_panel, of_genes
        The shared genes as a share of the panel and of the given genes, in [0, 1].
    """

    name: str
    display_name: str
    shared: int
    of_panel: float
    of_genes: float


@functools.cache
def _panels() -> pd.DataFrame:
    return pd.read_csv(resource("panels/panels.csv")).set_index("panel")


@functools.cache
def _members() -> dict[str, list[int]]:
    members: dict[str, list[int]] = {name: [] for name in _panels().index}
    for row, names in enumerate(gene_records()["panels"]):
        for name in filter(None, names.split(";")):
            members[name].append(row)
    return members


def list_panels() -> pd.DataFrame:
    """The known panels: index ``panel`` (its name), columns display_name, n_genes, tissue, source_url."""
    return _panels().copy()


def panel(name: str) -> pd.DataFrame:
    """Genes of a panel: columns ensembl_id and symbol, in token order. Raises GeneError for an unknown name."""
    if name not in _members():
        raise GeneError(f"There is no panel {name!r}.", expected=", ".join(_members()))
    genes = gene_records().iloc[_members()[name]]
    return genes[["ensembl_id", "symbol"]].reset_index(drop=True)


def guess_panel(ids: Iterable[str]) -> PanelGuess:
    """The panel most like a set of genes (Ensembl ids without version; "" is ignored), by Jaccard index.

    Custom add-on genes lower the index of all panels alike, so a panel with add-ons is still found.
    """
    genes = {gene for gene in ids if gene}
    best, best_index = PanelGuess("", "", 0, 0.0, 0.0), 0.0
    for name, row in _panels().iterrows():
        members = set(panel(str(name))["ensembl_id"])
        shared = len(members & genes)
        index = shared / len(members | genes)
        if index > best_index:
            share = (shared / len(members), shared / len(genes))
            best, best_index = PanelGuess(str(name), str(row["display_name"]), shared, *share), index
    return best
