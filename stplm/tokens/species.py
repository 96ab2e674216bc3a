"""Guess from gene names which species a table is of, so that a wrong one is named in the error."""

from __future__ import annotations

import re
from collections.abc import Sequence

_ENSEMBL_PREFIX = {
    "ENSG": "human",
    "ENSMUSG": "mouse",
    "ENSRNOG": "rat",
    "ENSDARG": "zebrafish",
    "ENSSSCG": "pig",
    "ENSMMUG": "macaque",
    "ENSMFAG": "macaque",
    "ENSCAFG": "dog",
    "ENSGALG": "chicken",
    "FBGN": "fruit fly",
}
_PREFIX = re.compile(r"^(ENS[A-Z]*G|FBgn)R?\d", re.IGNORECASE)
_MOUSE_GENOME = re.compile(r"^(?:mm10|mm39|GRCm38|GRCm39)[-_]+", re.IGNORECASE)
# Mouse symbols are written Epcam or 1700001C02Rik; human ones are upper case but for C1orf162 and the like.
_TITLE_CASE = re.compile(r"^(?:[A-Z][a-z0-9.-]*[a-z][a-z0-9.-]*|\d+\w+Rik)$")
_OPEN_READING_FRAME = re.compile(r"^C(?:\d+|X|Y)orf\d+", re.IGNORECASE)


def is_ensembl_id(name: str) -> bool:
    """Whether a name is an Ensembl gene id (or FlyBase's, which Ensembl takes over), of whatever species."""
    return _PREFIX.match(name) is not None


def guess_species(names: Sequence[str]) -> str:
    """The species that most gene names look like: "human", "mouse", ...; "unknown" for foreign Ensembl ids.

    Ensembl ids decide by their prefix, symbols by case: human symbols are upper case, mouse and rat symbols in title
    case. Names that tell nothing (all lower case, empty) count as human, so that they are tried.
    """
    votes: dict[str, int] = {}
    for name in map(str, names):
        if species := _species_of(name.strip()):
            votes[species] = votes.get(species, 0) + 1
    return max(votes, key=lambda species: votes[species]) if votes else "human"


def _species_of(name: str) -> str:
    if match := _PREFIX.match(name):
        return _ENSEMBL_PREFIX.get(match.group(1).upper(), "unknown")
    if _MOUSE_GENOME.match(name):
        return "mouse"
    if not name or _OPEN_READING_FRAME.match(name):
        return ""
    return "mouse" if _TITLE_CASE.match(name) else "human"
