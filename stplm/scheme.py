"""The two ways in which cell type and tumour call go together; ``tasks/outcome.py`` says how each is worked out."""

from __future__ import annotations

from typing import Literal, get_args

from stplm.errors import LabelError

Scheme = Literal["joint", "hierarchical"]


def check_scheme(scheme: str) -> Scheme:
    """The scheme itself. Raises LabelError when there is no such scheme."""
    for known in get_args(Scheme):
        if scheme == known:
            return known  # type: ignore[no-any-return]
    raise LabelError("There is no such scheme.", found=str(scheme), expected=" or ".join(get_args(Scheme)))
