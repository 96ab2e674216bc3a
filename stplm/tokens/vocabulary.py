"""Which human genes STPLM knows, by what names, and their token ids.

Genes are keyed by Ensembl id without version. ``resources/vocabulary/genes.csv`` holds every gene of the vendor's human
Xenium panels, of the public breast section's add-on panel, and of STPLM's token dictionary; names outside the panels
are GENCODE's (releases 48 and 38). ``aliases.csv`` adds older symbols and the protein names that pathologists use.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stplm import keys
from stplm.errors import GeneError
from stplm.paths import resource
from stplm.tokens.species import guess_species

if TYPE_CHECKING:
    from anndata import AnnData

PAD, MASK, CLS, EOS = "<pad>", "<mask>", "<cls>", "<eos>"

_ENSEMBL = re.compile(r"(ENSGR?\d{10,11})(?:\.\d+)?(?:_PAR_Y)?", re.IGNORECASE)
_GENOME_PREFIX = re.compile(r"^(?:GRCh38|GRCh37|hg38|hg19)[-_]+", re.IGNORECASE)


def symbol_to_ensembl() -> dict[str, str]:
    """Gene symbol -> Ensembl id, of every known gene that has a symbol (a fresh dict; symbols as HGNC writes them)."""
    return dict(_names().id_of_symbol)


def ensembl_to_symbol() -> dict[str, str]:
    """Ensembl id without version -> gene symbol; the id itself for genes without a symbol (a fresh dict)."""
    return dict(_names().symbol_of_id)


def known_ensembl_ids() -> frozenset[str]:
    """The Ensembl ids (without version) in the vocabulary."""
    return _names().known


def match_genes(names: Sequence[str]) -> np.ndarray:
    """Ensembl ids, without version, of gene names.

    Takes symbols (upper or lower case), older symbols and common protein names (SDPR for CAVIN2, HER2 for ERBB2),
    Ensembl ids with or without version, and symbols with a genome prefix (``GRCh38_EPCAM``). An exact symbol goes
    before a symbol in other case, and that before an alias.

    Returns
    -------
    str array of shape (n_names,), "" where a name is not in the vocabulary. Two names may give the same id.
    """
    return np.array([_match(str(name).strip()) for name in names], dtype="<U16")


def _match(name: str) -> str:
    tables = _names()
    if name in tables.id_of_symbol:
        return tables.id_of_symbol[name]
    name = _GENOME_PREFIX.sub("", name)
    if gene := strip_version(name):
        return gene if gene in tables.known else ""
    upper = name.upper()
    # R turns the hyphen of HLA-DRA into a dot.
    return tables.id_of_name.get(upper) or tables.id_of_name.get(upper.replace(".", "-"), "")


def strip_version(name: str) -> str:
    """A human Ensembl gene id without its version, e.g. ENSG00000119888 of ENSG00000119888.11; "" if it is not one."""
    match = _ENSEMBL.fullmatch(name.strip())
    return match.group(1).upper() if match else ""


def gene_places(genes: Sequence[str] | np.ndarray, among: Sequence[str] | np.ndarray) -> np.ndarray:
    """Where each of ``genes`` is among others, int64 (n_genes,): -1 for one that is not there, and for ""."""
    place = {str(gene): i for i, gene in enumerate(among)}
    return np.array([place.get(str(gene), -1) if gene else -1 for gene in genes], dtype=np.int64)


def gene_ids(table: AnnData) -> np.ndarray:
    """Ensembl id of each gene of a table, "" where it is not known.

    ``var["ensembl_id"]`` is taken where it is there (ids outside the vocabulary are kept, without version); blanks in
    it, and tables without it, are matched by the var index; where two names match one id, the gene's present symbol
    gets it, else the first.

    Returns
    -------
    str array of shape (n_genes,).

    Raises
    ------
    GeneError
        When no gene is in the vocabulary; it says which species the genes look like.
    """
    names = table.var_names.astype(str).to_numpy()
    if keys.ENSEMBL_ID in table.var:
        given = table.var[keys.ENSEMBL_ID].astype(object).fillna("").astype(str).to_numpy()
        ids = np.array([strip_version(value) for value in given], dtype="<U16")
    else:
        given = names
        ids = np.zeros(len(names), dtype="<U16")
    blank = ids == ""
    species = guess_species([*given[blank], *names[blank]])
    if blank.any() and species == "human":
        ids[blank] = _unclaimed(match_genes(names[blank]), names[blank], ids[~blank])
    if not len(ids) or not known_ensembl_ids().intersection(ids.tolist()):
        raise GeneError(
            "No gene of this table is a human gene that STPLM knows.",
            where=f'var["{keys.ENSEMBL_ID}"]' if keys.ENSEMBL_ID in table.var else "var index",
            found=_found(given, species),
            expected="human gene symbols (EPCAM) or Ensembl ids (ENSG00000119888)",
            mend="STPLM reads human sections only; if this is one, put Ensembl ids in var['ensembl_id'].",
        )
    return ids


def _unclaimed(matched: np.ndarray, names: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Matched ids without repeats: a present symbol goes before an alias, what was given before both."""
    present = np.array([_names().symbol_of_id.get(gene) == name for gene, name in zip(matched, names, strict=True)])
    claimed = set(taken.tolist())
    result = np.zeros_like(matched)
    for row in np.argsort(~present, kind="stable"):
        if matched[row] and matched[row] not in claimed:
            claimed.add(matched[row])
            result[row] = matched[row]
    return result


def _found(given: np.ndarray, species: str) -> str:
    if not len(given):
        return "no genes at all"
    look = f"; they look like {species} genes" if species not in ("human", "unknown") else ""
    return f"{len(given)} genes such as {', '.join(given[:3])}{look}"


@dataclass(frozen=True)
class Vocabulary:
    """Token ids of genes, and of the special tokens that a model has.

    Attributes
    ----------
    name
        How the vocabulary is called in files.
    ids
        Ensembl id without version -> token id.
    special
        "<pad>", "<mask>", "<cls>", "<eos>" -> token id; a model without one leaves it out.
    """

    name: str
    ids: Mapping[str, int]
    special: Mapping[str, int]

    @property
    def size(self) -> int:
        """One more than the highest token id: rows of an embedding table."""
        return 1 + max(max(self.ids.values(), default=-1), max(self.special.values(), default=-1))

    def encode(self, genes: Sequence[str] | np.ndarray) -> np.ndarray:
        """Token ids, int32 of shape (n_genes,), of Ensembl ids; -1 where a gene is not in the vocabulary."""
        return np.fromiter((self.ids.get(str(gene), -1) for gene in genes), dtype=np.int32, count=len(genes))

    def decode(self, tokens: Sequence[int] | np.ndarray) -> list[str]:
        """Ensembl ids or special tokens of token ids. Raises GeneError on an id that is not in use."""
        names = {token: name for table in (self.ids, self.special) for name, token in table.items()}
        if strangers := sorted({int(token) for token in tokens} - names.keys()):
            raise GeneError(f"Token ids {strangers[:5]} are not in the vocabulary {self.name!r}.")
        return [names[int(token)] for token in tokens]


@functools.cache
def load_vocabulary(name: str = "stplm") -> Vocabulary:
    """A shipped vocabulary.

    ``"stplm"``: special tokens 0 to 3, then the genes in the order of ``genes.csv``, panel genes first; the order only
    grows, so ids are stable. ``"reference"``: the token dictionary of the STPLM reference models, whose gene ids follow
    Geneformer's (Theodoris et al. 2023): ``<pad>`` 0, ``<mask>`` 1, genes from 2, ``<cls>`` 25441, ``<eos>`` 25442.

    Raises GeneError for another name.
    """
    table = gene_records()
    if name == "stplm":
        ids = {gene: row + 4 for row, gene in enumerate(table["ensembl_id"])}
        return Vocabulary(name, ids, {PAD: 0, MASK: 1, CLS: 2, EOS: 3})
    if name == "reference":
        table = table[table["reference_token"] >= 0].sort_values("reference_token")
        ids = dict(zip(table["ensembl_id"], table["reference_token"].tolist(), strict=True))
        return Vocabulary(name, ids, {PAD: 0, MASK: 1, CLS: 25441, EOS: 25442})
    raise GeneError(f"There is no vocabulary {name!r}.", expected="'stplm' or 'reference'")


@dataclass(frozen=True)
class _Names:
    symbol_of_id: dict[str, str]
    id_of_symbol: dict[str, str]
    id_of_name: dict[str, str]
    known: frozenset[str]


@functools.cache
def gene_records() -> pd.DataFrame:
    """The shipped gene table (read only): ensembl_id, symbol, aliases, panels, reference_token; in token order."""
    path = resource("vocabulary/genes.csv")
    return pd.read_csv(path, dtype={"reference_token": "int32"}, keep_default_na=False)


@functools.cache
def _names() -> _Names:
    table = gene_records()
    # Genes of a panel come first in the table, so where two ids share a symbol the panel's one is kept.
    by_symbol: dict[str, str] = {}
    for gene, symbol in zip(table["ensembl_id"], table["symbol"], strict=True):
        if symbol:
            by_symbol.setdefault(symbol, gene)
    by_name: dict[str, str] = {}
    for symbol, gene in by_symbol.items():
        by_name.setdefault(symbol.upper(), gene)
    hand = pd.read_csv(resource("vocabulary/aliases.csv"), keep_default_na=False)
    pairs = [(alias, by_symbol[symbol]) for alias, symbol in zip(hand["alias"], hand["symbol"], strict=True)]
    for gene, aliases in zip(table["ensembl_id"], table["aliases"], strict=True):
        pairs.extend((alias, gene) for alias in aliases.split(";") if alias)
    for alias, gene in pairs:
        by_name.setdefault(alias.upper(), gene)
    return _Names(
        symbol_of_id={g: s or g for g, s in zip(table["ensembl_id"], table["symbol"], strict=True)},
        id_of_symbol=by_symbol,
        id_of_name=by_name,
        known=frozenset(table["ensembl_id"]),
    )
