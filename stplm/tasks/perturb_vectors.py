"""Own vectors of variants: the same as encoding each edited cell by itself, with what variants share done once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stplm.errors import StplmError
from stplm.tasks.perturb_edits import Edits, LevelRule, Rule

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from stplm.nn.encoder import Encoder

MEASURES = ("cell", "genes", "cls")
_CHUNK = 4096


class VariantEncoder(ABC):
    """Encodes variants of blocks of cells. A subclass says how; :func:`variant_encoder` chooses.

    Parameters
    ----------
    encoder
        On its device, in evaluation mode.
    rows
        int64 (m,): gene row of each column of the counts.
    """

    block: int = 1024
    """Cells of a block."""
    cost: int = 1
    """About how much dearer a variant is than one of the cell-token encoder."""
    measure: str = "cell"
    """What the shift is of, see :func:`stplm.perturb`."""
    rule: Rule

    def __init__(self, encoder: Encoder, rows: NDArray[np.int64], dtype: str = "float32") -> None:
        self.encoder, self.rows, self.dtype = encoder, rows, dtype
        self.device = next(encoder.parameters()).device

    @abstractmethod
    def base(self, counts: NDArray[np.float32]) -> NDArray[np.float32]:
        """Own vectors (b, own_width) of cells as they are, computed as variants are."""

    @abstractmethod
    def parts(
        self, counts: NDArray[np.float32], edits: Edits
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32] | None]]:
        """Positions (p,) of some variants, their own vectors (p, own_width), and their shift (p,) where the measure is
        not the cell vector's. Each variant comes once."""

    def between(
        self, before: NDArray[np.float32], after: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """For cells with counts (b, m) before and after: own vectors after, and the shift as :meth:`parts` gives it."""
        return self.base(after), None

    def half(self) -> Any:
        """Matrix products in half precision where asked for."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == "bfloat16")


def variant_encoder(
    encoder: Encoder,
    rows: NDArray[np.int64],
    mode: str,
    section: csr_matrix,
    *,
    measure: str = "cell",
    dtype: str = "float32",
) -> VariantEncoder:
    """The variant encoder for a model; ``section``: counts (n, m) of its cells, which say how high a gene can be.

    Raises StplmError for a measure that the model does not have.
    """
    from stplm.nn.tissue import TissueEncoder
    from stplm.tasks.perturb_bag import BagVariants

    if measure not in MEASURES:
        raise StplmError(f"There is no measure {measure!r}.", expected=", ".join(MEASURES))
    if not isinstance(encoder, TissueEncoder):  # which needs no transformers, as long to import as torch
        from stplm.nn.rank import RankStage
        from stplm.tasks.perturb_tokens import TokenVariants

        if isinstance(encoder, RankStage):
            return TokenVariants(encoder, rows, mode, measure, dtype)
    if measure != "cell":
        raise StplmError(
            f"The measure {measure!r} is of gene tokens, which this model does not have.",
            found=f"preset {encoder.preset!r}",
            mend="Take measure='cell', or a model of the preset rank or hybrid.",
        )
    rule = LevelRule.of(mode, section)
    if isinstance(encoder, TissueEncoder):
        return BagVariants(encoder, rows, rule, dtype)
    return CountVariants(encoder, rows, rule, dtype)


class CountVariants(VariantEncoder):
    """Any encoder of counts: each variant's counts are written out and encoded."""

    def __init__(self, encoder: Encoder, rows: NDArray[np.int64], rule: Rule, dtype: str = "float32") -> None:
        super().__init__(encoder, rows, dtype)
        self.rule = rule

    def base(self, counts: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._encode(counts)

    def parts(
        self, counts: NDArray[np.float32], edits: Edits
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32] | None]]:
        for start in range(0, len(edits), _CHUNK):
            part = edits.take(slice(start, start + _CHUNK))
            edited = counts[part.cells]
            edited[part.owner, part.columns] = part.new
            yield np.arange(start, start + len(part)), self._encode(edited), None

    def _encode(self, counts: NDArray[np.float32]) -> NDArray[np.float32]:
        rows = torch.as_tensor(self.rows, device=self.device)
        with torch.inference_mode(), self.half():
            return to_numpy(self.encoder.encode_own(torch.from_numpy(counts).to(self.device), rows))


def to_numpy(vectors: Tensor) -> NDArray[np.float32]:
    """As float32 in memory."""
    return np.asarray(vectors.float().cpu().numpy())
