"""The loop of fine-tuning: patches, loss, optimiser, held-out score after each epoch, checkpoints.

What a step draws is a function of seed, epoch and step, so a run that was killed and taken up from its checkpoint ends
in the same bytes as one that was not.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor, nn

from stplm.nn.class_losses import class_loss
from stplm.progress import Progress, no_progress
from stplm.tasks.checkpoints import Checkpoints
from stplm.tasks.curves import Curves
from stplm.tasks.finetune_config import FinetuneConfig
from stplm.tasks.finetune_heads import trained_shares
from stplm.tasks.finetune_patches import Forward, Patch, at_once, group, plan_patches
from stplm.tasks.finetune_scores import held_out_scores
from stplm.tasks.finetune_watch import Watch
from stplm.tasks.processes import Processes

OnEpoch = Callable[[int, dict[str, float]], None]
SCORES = ("loss", "macro_f1", "balanced_accuracy", "tumour_f1")
_CLIP = 1.0
_AT_ONCE = 1024
"""Cells, context included, whose activations are in memory together."""
_TURN, _PLAN, _HELD_OUT = 1, 2, 3


class Learner(nn.Module):
    """Encoder and heads, and the loss of the cells of some patches: what several processes wrap."""

    def __init__(self, forward: Forward, weights: Tensor, config: FinetuneConfig) -> None:
        super().__init__()
        self.encoder, self.heads = forward.encoder, forward.heads
        self._forward, self._config = forward, config
        self._weights = weights

    def flag(self, on: bool) -> Tensor:
        """1 or 0 where the loss is worked out, for several processes to agree on."""
        return self._weights.new_full((), float(on))

    def forward(self, patches: list[Patch], total: float, draw: int) -> Tensor:
        """Loss summed over the scored cells of ``patches``, over ``total``.

        What a patch draws follows from ``draw`` and the patch, not from what its process has done before.
        """
        config, loss = self._config, self._weights.new_zeros(())
        for patch in patches:
            random = np.random.default_rng([draw, patch.section, int(patch.cells[0])])
            generator = torch.Generator(self._weights.device).manual_seed(int(random.integers(2**62)))
            torch.manual_seed(int(random.integers(2**62)))  # of dropout
            log_proba = self._forward.log_proba(
                patch, thinning=config.thinning, turn=float(random.uniform(0, 2 * np.pi)), generator=generator
            )
            codes = self._forward.sections[patch.section].codes[patch.cells[: patch.scored]]
            part = class_loss(
                log_proba,
                torch.as_tensor(codes, device=log_proba.device),
                self._weights,
                gamma=config.focal_gamma if config.loss == "focal" else 0.0,
                smoothing=config.label_smoothing,
            )
            loss = loss + part * (patch.scored / total)
        if not patches:
            # One process of several may be left without a patch; its gradients are 0.
            loss = loss + 0 * sum(p.sum() for p in self.parameters() if p.requires_grad)
        return loss


class _State(nn.Module):
    """What a checkpoint holds: weights now, weights at the best held-out score, where the run is, scores so far."""

    at: Tensor
    history: Tensor

    def __init__(self, learner: Learner, epochs: int) -> None:
        super().__init__()
        self.now = nn.ModuleDict({"encoder": learner.encoder, "heads": learner.heads})
        self.best = copy.deepcopy(self.now).requires_grad_(False)
        self.register_buffer("at", torch.zeros(3, dtype=torch.int64))
        self.register_buffer("history", torch.full((epochs, len(SCORES)), torch.nan, dtype=torch.float64))

    def keep(self) -> None:
        self.best.load_state_dict(self.now.state_dict())

    def take_best(self) -> None:
        self.now.load_state_dict(self.best.state_dict())


def train(
    forward: Forward,
    weights: Tensor,
    config: FinetuneConfig,
    *,
    epochs: int,
    checkpoints: Checkpoints | None = None,
    curves: Curves | None = None,
    processes: Processes | None = None,
    progress: Progress = no_progress,
    on_epoch: OnEpoch | None = None,
    watch: Watch | None = None,
) -> list[dict[str, float]]:
    """Train the encoder's unfrozen weights and the heads in place; the scores of each epoch.

    Where cells are held out, training stops ``config.patience`` epochs after the best one, and the best one's weights
    are kept, the start's (epoch 0) included. ``on_epoch`` is told each epoch's scores and may raise to stop. ``watch``
    writes the history and may end the training early, with a checkpoint. Progress counts labelled cells. The caller's
    random numbers stay as they were.

    Raises
    ------
    ModelError
        The checkpoint is of another run.
    Cancelled
        When ``progress`` raises it; the last checkpoint stays.
    """
    processes = processes or Processes(weights.device)
    curves = curves or Curves(None)
    learner = Learner(forward, weights, config)
    try:
        with torch.random.fork_rng():
            return _loop(learner, config, epochs, checkpoints, curves, processes, progress, on_epoch, watch or Watch())
    finally:
        learner.eval()


def _loop(
    learner: Learner,
    config: FinetuneConfig,
    epochs: int,
    checkpoints: Checkpoints | None,
    curves: Curves,
    processes: Processes,
    progress: Progress,
    on_epoch: OnEpoch | None,
    watch: Watch,
) -> list[dict[str, float]]:
    forward, main = learner._forward, processes.index == 0
    state = _State(learner, epochs + 1)
    optimiser = _optimiser(learner, config)
    learnt = [p for group_ in optimiser.param_groups for p in group_["params"]]
    context = config.neighbours and forward.vectors is None
    trees = [cKDTree(s.cells.xy) if context and s.cells.xy is not None else None for s in forward.sections]
    n_train = sum(int(s.train.sum()) for s in forward.sections)
    prior = trained_shares(forward.sections, learner._weights.cpu().numpy().astype(np.float64))
    losses: list[float] = []
    run = {"training": config.identity(), "epochs": epochs}
    if checkpoints:
        _, losses = checkpoints.read(state, optimiser, run)
    first, begun, step = state.at.tolist()
    told = [_row(state, e) for e in range(first + 1 if losses else 0)]
    if not told:
        told.append(_score(forward, prior, config, trees, float("nan")))
        _record(state, told)
        losses = [0.0, 0.0]
    if main:
        for epoch, scores in enumerate(told):
            watch.on_epoch(epoch, epochs, scores)
    wrapped = processes.wrap(learner)
    half = torch.autocast(forward.device.type, torch.bfloat16, enabled=config.precision == "bfloat16")
    for epoch in range(first, epochs):
        if _stalled(told, config.patience):
            break
        random = np.random.default_rng([config.seed, epoch, _PLAN])
        size = config.patch if context else config.batch
        batches = group(plan_patches(forward.sections, "train", size, random, trees), config.batch)
        seen = epoch * n_train + sum(p.scored for b in batches[:begun] for p in b)
        learner.train()
        for number in range(begun, len(batches)):
            if watch.can_stop and float(processes.mean(learner.flag(watch.should_stop(step)))) > 0:
                watch.stopped_at = step
                if main and checkpoints:
                    checkpoints.write(step, losses, state, optimiser, run)
                break
            batch = batches[number]
            rate = _rate((epoch + number / len(batches)) / epochs, 1 / (epochs * len(batches)), config)
            for parameters in optimiser.param_groups:
                parameters["lr"] = parameters["highest"] * rate
            draw = int(np.random.default_rng([config.seed, epoch, _TURN, number]).integers(2**62))
            total, value = sum(p.scored for p in batch), 0.0
            optimiser.zero_grad(set_to_none=True)
            for patches in at_once(batch, _AT_ONCE * processes.count):
                with half:
                    loss = wrapped(patches[processes.index :: processes.count], total / processes.count, draw)
                processes.backward(loss)
                value += float(processes.mean(loss.detach()))
            torch.nn.utils.clip_grad_norm_(learnt, _CLIP)
            optimiser.step()
            step, seen = step + 1, seen + total
            losses = [losses[0] + value * total, losses[1] + total]
            state.at.copy_(torch.tensor([epoch, number + 1, step]))
            if main:
                curves.step(step, {"loss": value}, rate * config.learning_rate, total)
                watch.on_step(step, epoch + (number + 1) / len(batches), epochs, value)
                if checkpoints and number + 1 < len(batches) and checkpoints.is_due(step):
                    checkpoints.write(step, losses, state, optimiser, run)
                progress(min(seen, epochs * n_train - 1), epochs * n_train)
        if watch.stopped_at is not None:
            break
        told.append(_score(forward, prior, config, trees, losses[0] / max(losses[1], 1.0)))
        _record(state, told)
        begun, losses = 0, [0.0, 0.0]
        state.at.copy_(torch.tensor([epoch + 1, 0, step]))
        if main:
            curves.validation(step, told[-1])
            watch.on_epoch(epoch + 1, epochs, told[-1])
            if checkpoints:
                checkpoints.write(step, losses, state, optimiser, run)
        if on_epoch is not None:
            on_epoch(epoch + 1, told[-1])
    if "macro_f1" in told[-1]:
        state.take_best()
    progress(epochs * n_train, epochs * n_train)
    return told


def best_epoch(history: list[dict[str, float]]) -> int:
    """The epoch whose weights are kept, 0 for the start: the first with the best held-out macro-F1, else the last."""
    scores = [h.get("macro_f1", -math.inf) for h in history]
    return int(np.argmax(scores)) if max(scores) > -math.inf else len(history) - 1


def _stalled(history: list[dict[str, float]], patience: int) -> bool:
    return "macro_f1" in history[-1] and len(history) - 1 - best_epoch(history) >= patience


def _record(state: _State, told: list[dict[str, float]]) -> None:
    row = [told[-1].get(name, math.nan) for name in SCORES]
    state.history[len(told) - 1] = torch.tensor(row, dtype=torch.float64)
    if best_epoch(told) == len(told) - 1:
        state.keep()


def _row(state: _State, epoch: int) -> dict[str, float]:
    return {n: v for n, v in zip(SCORES, state.history[epoch].tolist(), strict=True) if not math.isnan(v)}


def _score(
    forward: Forward,
    prior: NDArray[np.float64],
    config: FinetuneConfig,
    trees: list[cKDTree | None],
    loss: float,
) -> dict[str, float]:
    """Training loss and held-out scores, on the same patches every time."""
    scores = {} if math.isnan(loss) else {"loss": loss}
    if not any(s.test.any() for s in forward.sections):
        return scores
    random = np.random.default_rng([config.seed, _HELD_OUT])
    size = config.patch if any(t is not None for t in trees) else config.batch
    proba, codes = [], []
    forward.encoder.eval()
    forward.heads.eval()
    with torch.no_grad():
        for patch in plan_patches(forward.sections, "test", size, random, trees):
            proba.append(forward.log_proba(patch).cpu().numpy())
            codes.append(forward.sections[patch.section].codes[patch.cells[: patch.scored]])
    return {**scores, **held_out_scores(np.concatenate(proba), np.concatenate(codes), prior, forward.heads)}


def _optimiser(learner: Learner, config: FinetuneConfig) -> torch.optim.AdamW:
    groups: list[dict[str, Any]] = [
        {"params": [p for p in part.parameters() if p.requires_grad], "lr": rate, "highest": rate}
        for part, rate in ((learner.encoder, config.learning_rate), (learner.heads, config.head_learning_rate))
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], weight_decay=config.weight_decay)


def _rate(done: float, step: float, config: FinetuneConfig) -> float:
    """Factor of the learning rates in a step that takes a share ``step`` when a share ``done`` is done."""
    rise = min(1.0, (done + step) / config.warm_up) if config.warm_up else 1.0
    fall = {"cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done, "constant": 1.0}[config.schedule]
    return rise * fall
