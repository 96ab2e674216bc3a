"""What the worker process does for the Apply dock: one section at a time, so that one's end is not all the others'."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stplm.progress import Progress

HEAD, OUTCOME = "head", "outcome.json"


def check_in_folder(folder: Path, params: Mapping[str, Any], progress: Progress) -> None:
    """Raise what is wrong with the classifier before any section is begun."""
    from stplm.tasks.batch import check_fit, open_classifier

    options = params["options"]
    check_fit(open_classifier(params["classifier"]), options["model"], options["embedding"])


def apply_in_folder(folder: Path, params: Mapping[str, Any], progress: Progress) -> None:
    """:func:`stplm.tasks.batch.apply_to_section`; its outcome goes to ``outcome.json``."""
    from stplm.tasks.batch import apply_to_section

    (folder / OUTCOME).unlink(missing_ok=True)
    run = apply_to_section(
        params["section"], params["folder"], params["classifier"], progress=progress, **params["options"]
    )
    (folder / OUTCOME).write_text(json.dumps(run.to_json()), encoding="utf-8")
