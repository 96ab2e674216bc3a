"""Background jobs and the worker process: progress, cancel, failure, death."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stplm.errors import Cancelled, StplmError
from stplm_napari import process
from stplm_napari.jobs import CANCELLED, DONE, FAILED, STALE, Job, Jobs
from stplm_napari.process import WorkerError, WorkerProcess


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerProcess]:
    found = WorkerProcess({"PYTHONPATH": str(Path(__file__).parent)})
    yield found
    found.stop()


@pytest.fixture
def jobs(qtbot: Any) -> Jobs:
    return Jobs()


def wait(qtbot: Any, job: Job, seconds: float = 10) -> Job:
    qtbot.waitUntil(lambda: not job.is_running, timeout=int(seconds * 1000))
    return job


def test_a_job_runs_elsewhere_and_ends_in_the_gui_thread(qtbot: Any, jobs: Jobs) -> None:
    here, seen = threading.get_ident(), {}

    def run(progress) -> str:
        seen["ran"] = threading.get_ident()
        progress(5, 10)
        return "result"

    job = jobs.start("Job", run, lambda result: seen.update(result=result, ended=threading.get_ident()))
    assert wait(qtbot, job).state == DONE
    assert seen["result"] == "result"
    assert seen["ran"] != here
    assert seen["ended"] == here
    assert not jobs.running


def test_a_job_tells_how_far_and_how_fast(qtbot: Any, jobs: Jobs) -> None:
    reports = []

    def run(progress) -> None:
        for i in range(1, 11):
            progress(i * 100, 1000)
            time.sleep(0.06)

    job = jobs.start("Job", run, lambda result: None, unit="cells")
    job.progressed.connect(lambda: reports.append((job.done, job.total, job.rate, job.seconds_left)))
    wait(qtbot, job)
    assert reports[-1][:2] == (1000, 1000)
    assert 500 < reports[-1][2] < 5000
    assert reports[-2][3] > 0


def test_a_cancelled_job_delivers_nothing(qtbot: Any, jobs: Jobs) -> None:
    delivered = []

    def run(progress) -> str:
        while True:
            progress(1, 10)
            time.sleep(0.01)

    job = jobs.start("Job", run, delivered.append)
    qtbot.wait(50)
    job.cancel()
    assert wait(qtbot, job, 2).state == CANCELLED
    assert not delivered


def test_a_stale_result_is_said_to_be_stale(qtbot: Any, jobs: Jobs) -> None:
    assert wait(qtbot, jobs.start("Job", lambda progress: 1, lambda result: False)).state == STALE


def test_errors_are_sentences_with_the_traceback_kept(qtbot: Any, jobs: Jobs) -> None:
    def ours(progress) -> None:
        raise StplmError("The file is cut short.", mend="Copy it again.")

    def theirs(progress) -> None:
        raise KeyError("x")

    job = wait(qtbot, jobs.start("Job", ours, lambda result: None))
    assert (job.state, job.error.mend) == (FAILED, "Copy it again.")
    job = wait(qtbot, jobs.start("Job", theirs, lambda result: None))
    assert job.state == FAILED
    assert "Something went wrong" in job.error.problem
    assert "theirs" in job.details


def test_an_error_while_the_result_is_taken_fails_the_job(qtbot: Any, jobs: Jobs) -> None:
    job = jobs.start("Job", lambda progress: 1, lambda result: 1 / 0)
    assert wait(qtbot, job).state == FAILED


def test_the_worker_stays_alive_between_tasks(worker: WorkerProcess, tmp_path: Path) -> None:
    seen = []
    worker.call("worker_tasks:count", tmp_path, {"steps": 3}, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (3, 3)
    first = (tmp_path / "done.txt").read_text()
    worker.call("worker_tasks:count", tmp_path, {"steps": 1})
    assert (tmp_path / "done.txt").read_text() == first == str(worker.pid)


def test_the_worker_imports_torch_only_for_tasks_that_need_it(worker: WorkerProcess, tmp_path: Path) -> None:
    worker.call("worker_tasks:loaded", tmp_path, {})
    modules = (tmp_path / "modules.txt").read_text().split()
    assert not {"torch", "napari", "qtpy", "PySide6"} & set(modules)


def test_an_error_of_the_engine_comes_back_as_it_was(worker: WorkerProcess, tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="No gene is known") as caught:
        worker.call("worker_tasks:fail", tmp_path, {})
    assert caught.value.mend == "Open a human section."
    assert "GeneError" in caught.value.details


def test_a_task_that_listens_is_cancelled_and_the_worker_lives(worker: WorkerProcess, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done > 2:
            raise Cancelled

    worker.call("worker_tasks:count", tmp_path, {"steps": 1})
    pid = worker.pid
    with pytest.raises(Cancelled):
        worker.call("worker_tasks:count", tmp_path, {"steps": 1000, "sleep": 0.02}, stop)
    assert worker.pid == pid


def test_a_task_that_does_not_listen_is_killed(
    worker: WorkerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "GRACE_S", 0.3)

    def stop(done: int, total: int) -> None:
        raise Cancelled

    started = time.monotonic()
    with pytest.raises(Cancelled):
        worker.call("worker_tasks:deaf", tmp_path, {}, stop)
    assert time.monotonic() - started < 5
    worker.call("worker_tasks:count", tmp_path, {"steps": 1})


def test_a_dead_worker_is_an_error_with_its_last_words_and_the_next_call_works(
    worker: WorkerProcess, tmp_path: Path
) -> None:
    with pytest.raises(WorkerError, match="stopped unexpectedly") as caught:
        worker.call("worker_tasks:crash", tmp_path, {})
    assert "code -9" in caught.value.found
    assert "out of memory" in caught.value.details
    worker.call("worker_tasks:count", tmp_path, {"steps": 1})


def test_a_job_says_how_far_it_is_in_words() -> None:
    from stplm_napari.jobs import Job
    from stplm_napari.widgets.panels import progress_words

    counting = Job("Embedding cells", "cells")
    assert progress_words(counting) == "Embedding cells: starting…"
    counting.report(0, 2000)
    assert progress_words(counting) == "Embedding cells: 0 of 2,000"
    counting.report(2000, 2000)
    assert progress_words(counting) == "Embedding cells: finishing…"
    reading = Job("Opening outs")
    assert progress_words(reading) == "Opening outs…"
    reading.started -= 3.5
    assert progress_words(reading) == "Opening outs… 3 s"
