"""In-silico perturbation as Geneformer does it, written from its definitions: one data-set row per variant.

For every gene of a cell a row is written out with that gene dropped (or moved); rows are read back in batches, padded,
passed through the model one forward each, and compared with the cell's own by cosine. Rows go through Hugging Face's
``datasets`` where it is installed (a data set a cell, one ``map`` that edits and one that measures lengths, as there);
else through an Arrow table of the same rows.

Definitions (Theodoris et al., 2023, and its documentation)
    delete: the gene's token is dropped, all others keep their order.
    overexpress: the gene's token is put first; the sentence is cut to the model's places again.
    inhibit, activate: the token moves a quarter of the sentence towards the end, the start.
    shift "cell": 1 - cosine of the cell's vector before and after; "cls": of the first token's vector.
    shift "genes": 1 - mean cosine, over the genes that were not edited and are in both sentences, of their vectors.

A model of cell tokens has no sentence: there a row is the cell's genes and counts, and delete drops the gene from both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from stplm.nn.ranking import CLS, EOS, FIRST_GENE, PAD, Tokens, tokenise
from stplm.tokens.encoded import count_bins

try:
    import datasets

    datasets.disable_progress_bars()
    LIBRARY = f"datasets {datasets.__version__}"
except ImportError:
    datasets = None
    LIBRARY = "an Arrow table"

Row = dict[str, Any]


@dataclass(frozen=True)
class Shift:
    """One variant: row of the cell, column of the gene, shift; ``vector`` after."""

    cell: int
    gene: int
    shift: float
    vector: np.ndarray


def screen(
    encoder: Any,
    counts: np.ndarray,
    rows: np.ndarray,
    *,
    mode: str = "delete",
    genes: Sequence[int] | None = None,
    measure: str = "cell",
    batch: int = 100,
    pad_to: int | None = None,
    library: bool = True,
) -> list[Shift]:
    """Every gene that a cell expresses (or ``genes``, columns), one at a time.

    ``counts`` float32 (n, m) with gene ``rows`` (m,); ``batch`` rows a forward, padded to their longest, or to
    ``pad_to``; ``library``: rows through ``datasets`` where it is installed.
    """
    tokens = hasattr(encoder, "tokenise")
    found = []
    for cell in range(len(counts)):
        base = _sentence(encoder, counts[cell], rows) if tokens else _bag(counts[cell], rows)
        here = [int(c) for c in (np.flatnonzero(counts[cell]) if genes is None else genes)]
        if mode != "overexpress":
            here = [c for c in here if int(rows[c]) + (FIRST_GENE if tokens else 0) in base["input_ids"]]
        if not here:
            continue
        edit = _edit_tokens(encoder, base, counts[cell], rows, mode) if tokens else _drop
        edited = _data_set(
            [{**base, "gene": int(rows[c]) + (FIRST_GENE if tokens else 0)} for c in here], edit, library
        )
        run = _run_tokens if tokens else _run_bag
        before = run(encoder, [base], pad_to)[0]
        for start, part in _batches(edited, batch):
            for i, (row, after) in enumerate(zip(part, run(encoder, part, pad_to), strict=True)):
                shift = _shift(base, before, row, after, measure)
                found.append(Shift(cell, here[start + i], shift, after[0]))
    return found


def _data_set(rows: list[Row], edit: Callable[[Row], Row], library: bool) -> Any:
    if datasets is not None and library:
        data = datasets.Dataset.from_dict({key: [row[key] for row in rows] for key in rows[0]})
        return data.map(edit).map(_measure)
    return pa.Table.from_pylist([_measure(edit(row)) for row in rows])


def _measure(row: Row) -> Row:
    row["length"] = len(row["input_ids"])
    return row


def _batches(data: Any, size: int) -> Iterator[tuple[int, list[Row]]]:
    for start in range(0, len(data), size):
        if isinstance(data, pa.Table):
            yield start, data.slice(start, size).to_pylist()
        else:
            part = data.select(range(start, min(start + size, len(data))))
            yield start, [dict(row) for row in part]


def _sentence(encoder: Any, counts: np.ndarray, rows: np.ndarray) -> Row:
    c = encoder.config
    index = torch.as_tensor(rows)
    tokens = tokenise(
        torch.from_numpy(counts[None]), index, encoder.gene_median[index], max_length=c.max_length, cls=c.cls, eos=c.eos
    )
    return {"input_ids": tokens.ids[0].tolist(), "bins": tokens.bins[0].tolist()}


def _edit_tokens(encoder: Any, base: Row, counts: np.ndarray, rows: np.ndarray, mode: str) -> Callable[[Row], Row]:
    """Edit one row. A moved token's bin is that of the count which its new place stands for."""
    c = encoder.config
    medians = encoder.gene_median.numpy()
    count_of = {int(r) + FIRST_GENE: float(n) for r, n in zip(rows, counts, strict=True)}
    head = [CLS] if c.cls else []
    tail = [EOS] if c.eos else []
    sentence = [(t, b) for t, b in zip(base["input_ids"], base["bins"], strict=True) if t >= FIRST_GENE]
    quotient = {t: count_of[t] / medians[t - FIRST_GENE] for t, _ in sentence}

    def bin_of(count: float) -> int:
        return int(count_bins(np.array([int(count)]))[0])

    def edit(row: Row) -> Row:
        gene = row["gene"]
        words = [word for word in sentence if word[0] != gene]
        if mode == "overexpress":
            first = sentence[0][0] == gene
            count = count_of[gene] if first else np.floor(max(quotient.values()) * medians[gene - FIRST_GENE]) + 1
            words = [(gene, bin_of(count)), *words]
        elif mode in ("inhibit", "activate"):
            place = [t for t, _ in sentence].index(gene)
            step = max(round(len(sentence) / 4), 1)
            target = min(place + step, len(sentence) - 1) if mode == "inhibit" else max(place - step, 0)
            count = count_of[gene]
            if target != place:
                stands = np.round(quotient[sentence[target][0]] * medians[gene - FIRST_GENE])
                count = min(max(stands, 1), count) if mode == "inhibit" else max(stands, count)
            words.insert(target, (gene, bin_of(count)))
        words = words[: c.max_length - len(head) - len(tail)]
        row["input_ids"] = head + [t for t, _ in words] + tail
        row["bins"] = [0] * len(head) + [b for _, b in words] + [0] * len(tail)
        return row

    return edit


def _run_tokens(encoder: Any, rows: list[Row], pad_to: int | None) -> list[tuple[np.ndarray, np.ndarray]]:
    width = pad_to or max(len(row["input_ids"]) for row in rows)
    ids = torch.tensor([row["input_ids"] + [PAD] * (width - len(row["input_ids"])) for row in rows])
    bins = torch.tensor([row["bins"] + [0] * (width - len(row["bins"])) for row in rows])
    tokens = Tokens(ids, bins, ids != PAD)
    with torch.inference_mode():
        even = bool(tokens.mask.all())
        hidden = encoder._run(tokens, even)
        vectors = encoder.pool(hidden, tokens)
    return list(zip(vectors.numpy(), hidden.numpy(), strict=True))


def _bag(counts: np.ndarray, rows: np.ndarray) -> Row:
    here = np.flatnonzero(counts)
    return {"input_ids": rows[here].tolist(), "counts": counts[here].tolist()}


def _drop(row: Row) -> Row:
    at = row["input_ids"].index(row["gene"])
    row["input_ids"] = row["input_ids"][:at] + row["input_ids"][at + 1 :]
    row["counts"] = row["counts"][:at] + row["counts"][at + 1 :]
    return row


def _run_bag(encoder: Any, rows: list[Row], pad_to: int | None) -> list[tuple[np.ndarray, None]]:
    width = pad_to or max(len(row["input_ids"]) for row in rows)
    genes = torch.tensor([row["input_ids"] + [0] * (width - len(row["input_ids"])) for row in rows])
    counts = torch.tensor([row["counts"] + [0.0] * (width - len(row["counts"])) for row in rows])
    dense = torch.zeros(len(rows), len(encoder.genes)).scatter_add_(1, genes, counts)
    with torch.inference_mode():
        vectors = encoder.encode_own(dense, torch.arange(len(encoder.genes)))
    return [(vector, None) for vector in vectors.numpy()]


def _shift(base: Row, before: Any, row: Row, after: Any, measure: str) -> float:
    if measure == "cell":
        return 1 - _cosine(before[0], after[0])
    if measure == "cls":
        return 1 - _cosine(before[1][0], after[1][0])
    place = {token: i for i, token in enumerate(base["input_ids"])}
    cosines = [
        _cosine(before[1][place[token]], after[1][i])
        for i, token in enumerate(row["input_ids"])
        if token >= FIRST_GENE and token != row["gene"] and token in place
    ]
    return 1 - float(np.mean(cosines)) if cosines else 0.0


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
