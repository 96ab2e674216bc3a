"""Checkpoints of a training run: encoder, optimiser moments and step, so that a killed run can be taken up again.

A folder of ``encoder.safetensors``, ``optimiser.safetensors`` and ``trainer.json``, written beside and renamed: a kill
leaves the last whole one. It belongs to one run: another config, corpus or architecture is refused.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stplm.errors import ModelError
from stplm.io.staged import restore_interrupted, staged_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor, nn
    from torch.optim import Optimizer

    from stplm.tasks.cells import Cells

_ABOUT, _ENCODER, _OPTIMISER = "trainer.json", "encoder.safetensors", "optimiser.safetensors"
_FORMAT = 1


@dataclass
class Checkpoints:
    """Where a run's checkpoint lies and when it is written.

    Attributes
    ----------
    folder
        The checkpoint's folder; the one above it must be there.
    every_steps, every_minutes
        Write after so many steps, or so many minutes, whichever comes first; 0 for never by this.
    resume
        Go on from what is there; otherwise a checkpoint that is there is refused, so that no run is lost by mistake.
    about
        What else tells this run from others, as plain values (base model, validation).
    """

    folder: Path
    every_steps: int = 0
    every_minutes: float = 5.0
    resume: bool = False
    about: dict[str, Any] = field(default_factory=dict)
    _last: float = field(default_factory=time.monotonic, repr=False)

    def __post_init__(self) -> None:
        self.folder = Path(self.folder)

    def is_due(self, step: int) -> bool:
        """Whether to write one after ``step`` steps."""
        if self.every_steps and step % self.every_steps == 0:
            return True
        return bool(self.every_minutes) and time.monotonic() - self._last >= 60 * self.every_minutes

    def write(
        self, step: int, losses: Sequence[float], encoder: nn.Module, optimiser: Optimizer, run: dict[str, Any]
    ) -> None:
        """Write the checkpoint in place of the last one. Raises ExportError."""
        from safetensors.torch import save_file

        with staged_folder(self.folder, mark=_ABOUT) as stage:
            stage.mkdir()
            save_file({k: v.detach().cpu().contiguous() for k, v in encoder.state_dict().items()}, stage / _ENCODER)
            save_file(_moments(encoder, optimiser), stage / _OPTIMISER)
            about = {"format": _FORMAT, "step": step, "losses": list(losses), "run": {**run, **self.about}}
            (stage / _ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        self._last = time.monotonic()

    def read(self, encoder: nn.Module, optimiser: Optimizer, run: dict[str, Any]) -> tuple[int, list[float]]:
        """Put a checkpoint, if there is one, into encoder and optimiser: steps done, and the latest losses.

        Raises
        ------
        ModelError
            The checkpoint is of another run, is damaged, or is there without ``resume``.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        restore_interrupted(self.folder)
        if not self.folder.exists():
            return 0, []
        if not self.resume:
            raise ModelError(
                "There is a checkpoint of an earlier run.",
                where=self.folder,
                mend="Go on from it (--resume, resume=True), or remove that folder.",
            )
        try:
            about = json.loads((self.folder / _ABOUT).read_text(encoding="utf-8"))
            _same_run(self.folder, about["run"], {**run, **self.about})
            encoder.load_state_dict(load_file(self.folder / _ENCODER))
            _restore_moments(encoder, optimiser, load_file(self.folder / _OPTIMISER))
            return int(about["step"]), [float(loss) for loss in about["losses"]]
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise ModelError(
                "The checkpoint cannot be read.",
                where=self.folder,
                found=f"{type(error).__name__}: {error}",
                mend="Remove that folder and train from the start.",
            ) from error


def fingerprint(cells: Cells) -> str:
    """SHA-256 of a section's counts, genes and positions; of one on disk, of what it was made from."""
    if checksum := getattr(cells, "checksum", ""):
        return str(checksum)
    from stplm.tasks.cells_file import FileRows

    digest = hashlib.sha256()

    def add(shape: tuple[int, ...], parts: Iterable[NDArray[Any]]) -> None:
        digest.update(str(shape).encode())
        for part in parts:
            digest.update(np.ascontiguousarray(part, dtype=np.float64 if part.dtype.kind == "f" else np.int64).data)

    counts: Any = cells.counts
    add(counts.indptr.shape, [counts.indptr])
    for name in ("indices", "data"):  # of a file the same bytes, a stretch of cells after the other
        parts = counts.blocks() if isinstance(counts, FileRows) else [counts]
        add((int(counts.indptr[-1]),), (getattr(part, name) for part in parts))
    for array in (cells.rows, cells.xy):
        if array is not None:
            add(array.shape, [array])
    return digest.hexdigest()


def _same_run(folder: Path, found: dict[str, Any], expected: dict[str, Any]) -> None:
    expected = json.loads(json.dumps(expected))
    for key in [*expected, *(k for k in found if k not in expected)]:
        was, wanted = found.get(key), expected.get(key)
        if was == wanted:
            continue
        what = key
        if isinstance(was, dict) and isinstance(wanted, dict):
            inner = next(k for k in [*wanted, *was] if was.get(k) != wanted.get(k))
            what, was, wanted = f"{key}: {inner}", was.get(inner), wanted.get(inner)
        raise ModelError(
            f"The checkpoint is of another run: its {what} differs.",
            where=folder,
            found=str(was)[:80],
            expected=str(wanted)[:80],
            mend="Go back to the settings and sections that it was made with, or remove that folder to start again.",
        )


def _moments(encoder: nn.Module, optimiser: Optimizer) -> dict[str, Tensor]:
    import torch

    return {
        f"{key}.{name}": torch.as_tensor(value).detach().cpu().contiguous()
        for name, parameter in encoder.named_parameters()
        for key, value in optimiser.state.get(parameter, {}).items()
    }


def _restore_moments(encoder: nn.Module, optimiser: Optimizer, moments: dict[str, Tensor]) -> None:
    parameters = dict(encoder.named_parameters())
    for entry, value in moments.items():
        key, _, name = entry.partition(".")
        parameter = parameters[name]
        # The count of steps stays on the CPU, as the optimiser itself keeps it.
        optimiser.state[parameter][key] = value if key == "step" else value.to(parameter)
