"""Which gene is which token of a checkpoint, and the medians that its ranks are made with."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stplm.errors import GeneError, ModelError
from stplm.tokens.medians import MEDIAN_TABLES, load_medians, medians_of
from stplm.tokens.vocabulary import CLS, EOS, MASK, PAD, Vocabulary, load_vocabulary

DICTIONARY, MEDIANS = "token_dictionary.json", "gene_median_dictionary.json"
_CONVERT_DICTIONARY = (
    "Put token_dictionary.json (or .csv: gene, id) into the folder, or give vocabulary=. If you trust the published "
    "token dictionary, convert it yourself:\n"
    "    import json, pickle\n"
    '    tokens = pickle.load(open("token_dictionary.pkl", "rb"))\n'
    '    json.dump({str(k): int(v) for k, v in tokens.items()}, open("token_dictionary.json", "w"))\n'
    "and gene_median_dictionary.pkl in the same way, with float in place of int."
)


def checkpoint_vocabulary(folder: Path, given: str | Path | Vocabulary | None, n_tokens: int) -> Vocabulary:
    """The checkpoint's genes and special tokens, those it uses only. Raises ModelError when they do not fit."""
    beside = [folder / name for name in (DICTIONARY, "token_dictionary.csv") if (folder / name).is_file()]
    reference = load_vocabulary("reference")
    if isinstance(given, Vocabulary):
        words = given
    elif given == "reference" or (given is None and not beside):
        # As long as its genes, and its <cls>; <eos> has a row in some and is in no sentence.
        sizes = (reference.special[CLS], reference.special[CLS] + 1, reference.size)
        if n_tokens not in sizes:
            raise ModelError(
                "There is no token dictionary that says which gene is which token of this checkpoint.",
                where=folder,
                found=f"{n_tokens} tokens",
                expected=f"a dictionary of as many, or {' / '.join(map(str, sizes))} tokens as the shipped one",
                mend=_CONVERT_DICTIONARY,
            )
        words = Vocabulary("reference", reference.ids, {k: i for k, i in reference.special.items() if k != EOS})
    elif given == "stplm":
        words = load_vocabulary("stplm")
    else:
        words = _read_dictionary(beside[0] if given is None else Path(given), n_tokens)
    special = {name: i for name, i in words.special.items() if i < n_tokens}
    if words.ids and max(words.ids.values()) < n_tokens and {PAD, MASK} <= set(special):
        return Vocabulary(words.name, words.ids, special)
    raise ModelError(
        "The token dictionary does not fit the checkpoint.",
        where=folder,
        found=f"{len(words.ids)} genes, highest id {words.size - 1}, special tokens {', '.join(words.special)}",
        expected=f"ids below {n_tokens}, and {PAD} and {MASK} among them",
        mend=_CONVERT_DICTIONARY,
    )


def _read_dictionary(path: Path, n_tokens: int) -> Vocabulary:
    try:
        if path.suffix == ".csv":
            with path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.reader(file) if row]
            found = {row[0]: int(row[1]) for row in rows if row[1].strip().isdigit()}
        else:
            found = {str(k): int(v) for k, v in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError, TypeError, IndexError) as error:
        raise ModelError(
            "The token dictionary cannot be read.",
            where=path,
            found=f"{type(error).__name__}: {error}",
            expected="JSON or CSV of gene -> token id",
            mend=_CONVERT_DICTIONARY,
        ) from error
    special = {name: found.pop(name) for name in (PAD, MASK, CLS, EOS) if name in found}
    ids = {gene: i for gene, i in found.items() if not gene.startswith("<")}
    used = [*special.values(), *ids.values()]
    if len(used) != len(set(used)) or min(used, default=0) < 0:
        raise ModelError("The token dictionary gives one id to several tokens.", where=path, mend=_CONVERT_DICTIONARY)
    if CLS not in special and max(used, default=0) + 1 < n_tokens:
        # STPLM's has no entry in the dictionary.
        special[CLS] = max(used) + 1
    return Vocabulary(path.stem, ids, special)


def checkpoint_medians(
    genes: list[str], folder: Path, given: str | Path | Mapping[str, float] | None
) -> tuple[str, NDArray[np.float64]]:
    """Where the medians come from, and that of each gene, (n_genes,). Raises ModelError when they cannot be used."""
    path = folder / MEDIANS
    if isinstance(given, (str, Path)):
        origin = Path(given).name
    elif given is not None:
        origin = "given"
    elif path.is_file():
        origin = MEDIANS
        try:
            given = {str(k): float(v) for k, v in json.loads(path.read_text(encoding="utf-8")).items()}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise ModelError("The gene medians cannot be read.", where=path, found=str(error)) from error
    else:
        origin = given = max(MEDIAN_TABLES, key=lambda name: len(load_medians(name).index.intersection(genes)))
    if given == "flat":
        return origin, np.ones(len(genes))
    try:
        return origin, medians_of(np.array(genes), load_medians(given))
    except GeneError as error:
        raise ModelError("The gene medians cannot be used.", where=folder, found=error.problem) from error
