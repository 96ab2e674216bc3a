"""Training curves for TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stplm.errors import StplmError


class Curves:
    """Writes losses, learning rate and cells per second into a TensorBoard folder, or nowhere.

    Parameters
    ----------
    folder
        Where event files go; None for nowhere.
    every
        Steps between two points.

    Raises
    ------
    StplmError
        TensorBoard is not installed.
    """

    def __init__(self, folder: str | Path | None, every: int = 10) -> None:
        self.every, self._writer = max(every, 1), _open(folder)
        self._since, self._cells = time.monotonic(), 0

    def step(self, step: int, parts: Mapping[str, Any], rate: float, cells: int) -> None:
        """A training step's losses; ``cells`` were seen in it."""
        self._cells += cells
        if self._writer is None or (step % self.every and step > 1):
            return
        now = time.monotonic()
        for name, value in parts.items():
            self._writer.add_scalar(f"train/{name}", float(value), step)
        self._writer.add_scalar("learning_rate", rate, step)
        self._writer.add_scalar("cells_per_second", self._cells / max(now - self._since, 1e-9), step)
        self._since, self._cells = now, 0

    def validation(self, step: int, parts: Mapping[str, float]) -> None:
        """What held-out cells gave after ``step`` steps."""
        if self._writer is not None:
            for name, value in parts.items():
                self._writer.add_scalar(f"validation/{name}", value, step)

    def close(self) -> None:
        """Have everything on the disk."""
        if self._writer is not None:
            self._writer.close()


def _open(folder: str | Path | None) -> Any:
    if folder is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise StplmError(
            "Training curves need TensorBoard.", found=str(error), mend='pip install "stplm-napari[train]"'
        ) from error
    return SummaryWriter(str(folder))
