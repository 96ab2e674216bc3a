"""The loop of a search: ask for a trial, fine-tune, compare, keep the best models; within the budget."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stplm.errors import Cancelled, StplmError
from stplm.models import Model, load_model
from stplm.tasks.tune_space import Space, suggested
from stplm.tasks.tune_study import (
    ALONE,
    BEST,
    DEFAULTS,
    KIND,
    REASON,
    SEARCH,
    SECONDS,
    again,
    best_by_role,
    complete_trials,
    finished_trials,
    is_alone,
    trial_config,
    trial_row,
)

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import Trial

    from stplm.progress import Progress
    from stplm.tasks.finetune_config import FinetuneConfig
    from stplm.tasks.tune_task import TuneTask

now = time.monotonic


class _OutOfTime(Exception):
    """The budget is spent."""


class _Pruned(Exception):
    """The trial does worse than the others did by then."""


class Search:
    """One search, up to ``deadline`` on the clock :func:`now`. Models that are to be scored later go to ``storage``."""

    def __init__(
        self,
        task: TuneTask,
        study: Study,
        space: Space,
        *,
        deadline: float,
        storage: Path | None,
        progress: Progress,
        on_trial: Callable[[dict[str, Any]], None],
    ) -> None:
        self.task, self.study, self.space, self.deadline, self.storage = task, study, space, deadline, storage
        self.progress, self.on_trial = progress, on_trial
        self._kept: dict[str, Model] = {}
        self._soonest = 0.0

    def run(self, trials: int | None) -> None:
        """Run trials until there are ``trials``, or the deadline."""
        # A trial that cannot reach its first score in time is not begun.
        while (trials is None or len(finished_trials(self.study)) < trials) and now() + self._soonest < self.deadline:
            trial = self.study.ask()
            out_of_time = False
            try:
                self._trial(trial)
            except _OutOfTime:
                out_of_time = True
            self.on_trial(trial_row(self.study.trials[trial.number], self.space))
            if out_of_time:
                return

    def kept(self, role: str) -> Model | None:
        """The model of a role ("best trial", "defaults", "no neighbours"), of this run or an earlier one."""
        if role in self._kept:
            return self._kept[role]
        folder = self._folder(role)
        return load_model(folder) if folder is not None and folder.is_dir() else None

    def _folder(self, role: str) -> Path | None:
        return None if self.storage is None else self.storage / role.replace(" ", "_")

    def _trial(self, trial: Trial) -> None:
        """Run one trial and tell the study. A trial that is cut short is left to whoever goes on with the study."""
        import torch
        from optuna.trial import TrialState

        began, kind = now(), trial.user_attrs.get(KIND, SEARCH)
        trial.set_user_attr(KIND, kind)
        state, score = TrialState.FAIL, None
        try:
            config = trial_config(self.task.config, suggested(trial, self.space), kind)
            mean, model = self._score(trial, config)
            if np.isfinite(mean):
                state, score = TrialState.COMPLETE, mean
                self._keep(model, mean, config, kind)
            else:
                trial.set_user_attr(REASON, "The score is not a number.")
        except _Pruned:
            state = TrialState.PRUNED
        except (StplmError, torch.cuda.OutOfMemoryError) as error:
            if isinstance(error, Cancelled) or kind == DEFAULTS:
                self._give_up(trial, began)
                raise
            trial.set_user_attr(REASON, str(error).partition("\n")[0] or type(error).__name__)
        except BaseException:
            self._give_up(trial, began)
            raise
        trial.set_user_attr(SECONDS, round(now() - began, 1))
        self.study.tell(trial, score, state=state)

    def _give_up(self, trial: Trial, began: float) -> None:
        from optuna.trial import TrialState

        trial.set_user_attr(SECONDS, round(now() - began, 1))
        again(self.study, self.study.trials[trial.number])
        self.study.tell(trial, state=TrialState.FAIL)

    def _score(self, trial: Trial, config: FinetuneConfig) -> tuple[float, Model]:
        """Mean macro-F1 over the folds, and the first fold's model."""
        scores: list[float] = []
        first: Model | None = None
        for split in self.task.inner:
            mark = now()

            def on_epoch(epoch: int, told: dict[str, float], done: tuple[float, ...] = tuple(scores)) -> None:
                nonlocal mark
                trial.report(float(np.mean([*done, told["macro_f1"]])), len(done) * config.epochs + epoch)
                if trial.should_prune():
                    raise _Pruned
                last, mark = now() - mark, now()
                self._soonest = min(self._soonest or last, last)
                if epoch < config.epochs and mark + last > self.deadline:
                    raise _OutOfTime

            def on_step(done: int, total: int) -> None:
                self.progress(done, total)
                if done < total and now() > self.deadline:
                    raise _OutOfTime

            model, score = self.task.fine_tune(config, split, on_step, on_epoch)
            scores.append(score)
            first = first or model
        assert first is not None
        return float(np.mean(scores)), first

    def _keep(self, model: Model, score: float, config: FinetuneConfig, kind: str) -> None:
        """Keep a model that will be scored on cells that the search never saw."""
        if self.task.outer is None:
            return
        ended = complete_trials(self.study)
        best = best_by_role(self.study, self.task.config)
        roles = [DEFAULTS] if kind == DEFAULTS else []
        for role, belongs in ((BEST, True), (ALONE, is_alone(kind, config.neighbours))):
            held = best[role] if ended else None
            if belongs and (held is None or held.value is None or score > held.value):
                roles.append(role)
        for role in roles:
            self._kept[role] = model
            if (folder := self._folder(role)) is not None:
                model.save(folder, overwrite=True)
