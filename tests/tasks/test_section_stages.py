"""Sections through stages: one after the other in line, failures on record, progress, cancelling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stplm.errors import Cancelled, SectionError, StplmError
from stplm.tasks.scheduler import InLine, Unit, open_pool
from stplm.tasks.section_runs import SectionRun
from stplm.tasks.section_stages import Stage, Stages, run_stages

RUNS = [SectionRun(Path(name), Path("out") / name) for name in ("a", "b", "c")]


def _counting(done: list[str]) -> Callable[[SectionRun], Stages]:
    """Two, three and one units a section; the second stage needs what the first gave."""

    def unit(word: str) -> str:
        done.append(word)
        if word == "b first 1":
            raise SectionError("It is torn.", where="b")
        if word == "c last 0":
            raise ZeroDivisionError
        return word

    def stages(run: SectionRun) -> Stages:
        def of(name: str, number: int) -> list[Unit]:
            return [Unit(unit, (f"{run.section} {name} {i}",)) for i in range(number)]

        first: list[Any] = yield Stage(of("first", 2), 40)
        assert first == [f"{run.section} first {i}" for i in range(2)]
        assert (yield Stage([], 60)) == []
        yield Stage(of("last", 3), 100)
        return replace(run, state="done", cells=3)

    return stages


def test_sections_go_through_their_stages_and_failures_cost_only_themselves() -> None:
    done, told, at = list[str](), list[tuple[int, str]](), list[tuple[int, int]]()
    runs = run_stages(
        RUNS,
        _counting(done),
        InLine(),
        on_change=lambda i, run: told.append((i, run.state)),
        progress=lambda *p: at.append(p),
    )
    assert [run.state for run in runs] == ["done", "failed", "failed"]
    assert told == [(0, "running"), (0, "done"), (1, "running"), (1, "failed"), (2, "running"), (2, "failed")]
    assert done[:5] == ["a first 0", "a first 1", "a last 0", "a last 1", "a last 2"]
    assert "b last 0" not in done
    assert isinstance(runs[1].error, SectionError)
    assert "ZeroDivisionError" in str(runs[2].error)
    assert [d for d, _ in at] == sorted(d for d, _ in at)
    assert at[0] == (0, 300)
    assert at[-1] == (300, 300)


def test_a_caller_may_stop_between_units() -> None:
    done = list[str]()

    def stop(at: int, total: int) -> None:
        if at > 60:
            raise Cancelled

    with pytest.raises(Cancelled):
        run_stages(RUNS, _counting(done), InLine(), progress=stop)
    assert done == ["a first 0", "a first 1", "a last 0"]


def test_an_address_where_nobody_answers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stplm.tasks.scheduler._PATIENCE_S", 0.5)
    with pytest.raises(StplmError, match="No Dask scheduler answers"), open_pool("tcp://127.0.0.1:9"):
        pass
    with pytest.raises(StplmError, match="No Dask scheduler answers"), open_pool("nonsense"):
        pass
    with pytest.raises(StplmError, match="not to both"), open_pool("tcp://127.0.0.1:9", 2):
        pass
