"""Which genes a table holds: Ensembl ids where they are given, else found by symbol; other species are refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stplm.errors import GeneError
from stplm.tokens.species import guess_species, is_ensembl_id

FEW = 0.5
"""Under this share of known genes the user is warned."""


@dataclass
class Genes:
    """Genes of a table: unique symbols, Ensembl ids without version ("" unknown), how many the vocabulary knows."""

    symbols: NDArray[np.str_]
    ensembl_ids: NDArray[np.str_]
    n_known: int
    warnings: list[str] = field(default_factory=list)


def looks_like_ensembl(names: NDArray[np.str_]) -> bool:
    """Whether most of the names are Ensembl gene ids, of whatever species."""
    return len(names) > 0 and sum(map(is_ensembl_id, names)) > len(names) / 2


def identify_genes(symbols: NDArray[np.str_], ids: NDArray[np.str_] | None, where: str | Path) -> Genes:
    """Give every gene its human Ensembl id and a unique symbol.

    Parameters
    ----------
    symbols
        (n_genes,) names as the source gives them; may be Ensembl ids themselves.
    ids
        (n_genes,) Ensembl ids as the source gives them, with or without version; None where it has none.

    Raises
    ------
    GeneError
        No gene is known (it names the species that the genes look like), or one Ensembl id is given to two genes.
    """
    from stplm.tokens.vocabulary import ensembl_to_symbol, known_ensembl_ids, match_genes, strip_version

    symbols = np.asarray(symbols).astype(str)
    given = symbols if ids is None else np.asarray(ids).astype(str)
    # The copy of a gene on the Y chromosome's pseudoautosomal region has the same id, and next to no counts.
    ensembl = np.array(["" if i.endswith("_PAR_Y") else strip_version(i) for i in given], dtype="U16")
    _refuse_duplicates(ensembl, where)
    blank = ensembl == ""
    if blank.all():
        _refuse_other_species(given, symbols, where)
    # A mouse gene in a xenograft's panel is not the human gene of the same name.
    blank &= np.array([not is_ensembl_id(i) for i in given], dtype=bool)
    taken = set(ensembl.tolist())
    for i, match in zip(np.flatnonzero(blank), match_genes(symbols[blank].tolist()), strict=True):
        # Two names of one gene: the first has it, so that no gene is counted as two.
        if match and str(match) not in taken:
            ensembl[i] = match
            taken.add(str(match))
    known = known_ensembl_ids()
    n_known = sum(e in known for e in ensembl.tolist())
    if n_known == 0:
        raise GeneError(
            "None of the genes is known: the panel may be of another species, or the names are not gene names.",
            where=where,
            found=f"{len(symbols):,} genes: {_some(symbols)}",
            expected="human gene symbols (EPCAM) or human Ensembl ids (ENSG00000119888)",
            mend="Check that the section is human, and which column of the file holds the genes.",
        )
    if looks_like_ensembl(symbols):
        names = ensembl_to_symbol()
        symbols = np.array([names.get(e) or s for e, s in zip(ensembl.tolist(), symbols, strict=True)], dtype=str)
    warnings = []
    if n_known < FEW * len(symbols):
        warnings.append(
            f"Only {n_known:,} of {len(symbols):,} genes are known human genes. The others go by their names: "
            "labels teach what they say, and so does adapting the model to this section."
        )
    return Genes(_unique(symbols), ensembl.astype(str), n_known, warnings)


def _refuse_other_species(given: NDArray[np.str_], symbols: NDArray[np.str_], where: str | Path) -> None:
    """Without this, mouse symbols (Epcam) would match human genes, as symbols match in any case."""
    species = guess_species(given.tolist() if looks_like_ensembl(given) else symbols.tolist())
    if species == "human":
        return
    raise GeneError(
        f"The genes look like {'those of another species' if species == 'unknown' else species + ' genes'}; "
        "STPLM knows human genes only.",
        where=where,
        found=f"{len(given):,} genes like {_some(given)}",
        expected="human Ensembl ids (ENSG00000119888) or human symbols (EPCAM)",
        mend="Open a human section, or map the genes to their human orthologues first.",
    )


def _refuse_duplicates(ensembl: NDArray[np.str_], where: str | Path) -> None:
    unique, counts = np.unique(ensembl[ensembl != ""], return_counts=True)
    if (counts > 1).any():
        raise GeneError(
            "Gene ids are not unique.",
            where=where,
            found=f"{int((counts > 1).sum()):,} Ensembl ids occur more than once: {_some(unique[counts > 1])}",
            expected="each Ensembl id once",
            mend="Add up the columns of the same gene, or keep one of them.",
        )


def _unique(symbols: NDArray[np.str_]) -> NDArray[np.str_]:
    """Symbols made unique: the second ABC becomes ABC-1, or the next number that is free."""
    taken, result = set(symbols.tolist()), []
    seen: dict[str, int] = {}
    for symbol in symbols.tolist():
        if symbol not in seen:
            seen[symbol] = 0
            result.append(symbol)
            continue
        while (name := f"{symbol}-{seen[symbol] + 1}") in taken:
            seen[symbol] += 1
        seen[symbol] += 1
        taken.add(name)
        result.append(name)
    return np.array(result, dtype=str)


def _some(names: NDArray[np.str_], n: int = 3) -> str:
    return ", ".join(str(name) for name in names[:n]) + (", ..." if len(names) > n else "")
