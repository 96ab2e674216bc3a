"""The training loop of every preset: AdamW, a schedule, checkpoints, curves, one process or several.

What a step draws is a function of seed and step, so a run that was killed and taken up from its checkpoint ends in the
same bytes as one that was not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel

from stplm.errors import SectionError
from stplm.progress import Progress, no_progress
from stplm.tasks.checkpoints import Checkpoints, fingerprint
from stplm.tasks.curves import Curves
from stplm.tasks.objectives import Share, drawable
from stplm.tasks.processes import Processes
from stplm.tasks.training import rate_factor

if TYPE_CHECKING:
    from stplm.tasks.cells import Cells
    from stplm.tasks.objectives import Objective
    from stplm.tasks.training import TrainingConfig

_KEPT = 100
"""Losses of the latest steps, in a checkpoint."""


@dataclass
class Validation:
    """Held-out sections, scored every ``every`` steps on ``batches`` batches that are the same each time."""

    tables: Sequence[Cells]
    every: int = 200
    batches: int = 4
    latest: dict[str, float] = field(default_factory=dict)

    def score(self, objective: Objective, config: TrainingConfig) -> dict[str, float]:
        """Mean loss and parts, without training."""
        sums: dict[str, list[float]] = {}
        objective.eval()
        with torch.no_grad():
            for i in range(self.batches):
                random = np.random.default_rng([config.seed, i, 1])
                # Steps from 0 upwards, by twos: the kind of step that has every loss.
                batch = objective.draw(self.tables[i % len(self.tables)], 2 * i, random, Share())
                loss, parts = objective(batch)
                for name, value in {"loss": loss, **parts}.items():
                    sums.setdefault(name, []).append(float(value))
        objective.train()
        self.latest = {name: round(sum(values) / len(values), 4) for name, values in sums.items()}
        return self.latest


def train(
    objective: Objective,
    tables: Sequence[Cells],
    config: TrainingConfig,
    *,
    checkpoints: Checkpoints | None = None,
    curves: Curves | None = None,
    validation: Validation | None = None,
    processes: Processes | None = None,
    progress: Progress = no_progress,
) -> list[float]:
    """Train the objective's encoder in place, for ``config.steps`` steps in all; the losses of the latest steps.

    Without a checkpoint to go on from, that is one loss a step. The caller's random numbers stay as they were.

    Raises
    ------
    SectionError
        No cell has counts.
    ModelError
        The checkpoint is of another run.
    Cancelled
        When ``progress`` raises it; the last checkpoint stays.
    """
    processes = processes or Processes(objective.device)
    curves = curves or Curves(None)
    weight = np.array([len(drawable(cells)) for cells in tables], dtype=float)
    if not weight.sum():
        raise SectionError("No cell of these sections has counts.", mend="Choose other sections.")
    try:
        objective.prepare([*tables, *(validation.tables if validation else [])])
        with torch.random.fork_rng():
            return _loop(
                objective, tables, weight / weight.sum(), config, checkpoints, curves, validation, processes, progress
            )
    finally:
        objective.release()
        objective.eval()
        curves.close()


def _loop(
    objective: Objective,
    tables: Sequence[Cells],
    weight: NDArray[np.float64],
    config: TrainingConfig,
    checkpoints: Checkpoints | None,
    curves: Curves,
    validation: Validation | None,
    processes: Processes,
    progress: Progress,
) -> list[float]:
    learnt = [p for p in objective.encoder.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learnt, lr=config.learning_rate, weight_decay=config.weight_decay)
    run, start, losses = dict[str, Any](), 0, list[float]()
    if checkpoints:
        run = _run(objective, tables, config, processes)
        start, losses = checkpoints.read(objective.encoder, optimiser, run)
    wrapped, share = processes.wrap(objective), Share(processes.index, processes.count)
    objective.train()
    for step in range(start, config.steps):
        rate = config.learning_rate * rate_factor(step, config)
        for group in optimiser.param_groups:
            group["lr"] = rate
        random = np.random.default_rng([config.seed, step])
        torch.manual_seed(int(random.integers(2**62)))
        batch = objective.draw(tables[int(random.choice(len(tables), p=weight))], step, random, share)
        optimiser.zero_grad(set_to_none=True)
        with _precision(objective.device, config):
            loss, parts = wrapped(batch)
            processes.backward(loss)
        torch.nn.utils.clip_grad_norm_(learnt, config.clip)
        optimiser.step()
        losses.append(float(processes.mean(loss.detach())))
        if processes.index == 0:
            curves.step(step + 1, {"loss": losses[-1], **parts}, rate, batch.cells * processes.count)
            if validation and ((step + 1) % validation.every == 0 or step + 1 == config.steps):
                curves.validation(step + 1, validation.score(objective, config))
            if checkpoints and (step + 1 == config.steps or checkpoints.is_due(step + 1)):
                checkpoints.write(step + 1, losses[-_KEPT:], objective.encoder, optimiser, run)
            progress(step + 1, config.steps)
    return losses


@contextmanager
def _precision(device: torch.device, config: TrainingConfig) -> Iterator[None]:
    if config.precision == "float32":
        yield
        return
    # On CPUs, attention by plain products is quicker backwards in half precision than the fused kernel.
    kernel = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
    with torch.autocast(device.type, torch.bfloat16), kernel:
        yield


def _run(objective: Objective, tables: Sequence[Cells], config: TrainingConfig, processes: Processes) -> dict[str, Any]:
    """What must be the same for a checkpoint to be taken up."""
    encoder = objective.encoder
    return {
        "preset": encoder.preset,
        "training": config.to_dict(),
        "architecture": encoder.config.to_dict(),
        "genes": hashlib.sha256("\n".join(encoder.genes).encode()).hexdigest(),
        "sections": [fingerprint(cells) for cells in tables],
        # What a step learns from; a number of processes up to that may change on the way.
        "patches a step": max(config.patches, processes.count),
    }
