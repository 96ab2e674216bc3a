"""The sections that were opened lately, newest first; kept in the user's data folder. No Qt."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from stplm_napari.journal import user_data

_MOST = 8


def recent_sections() -> list[Path]:
    """Those that are still there."""
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [Path(p) for p in found if isinstance(p, str) and Path(p).exists()] if isinstance(found, list) else []


def remember(path: str | Path) -> None:
    """Put a section first. A list that cannot be written is no reason to bother anyone."""
    path = Path(path).resolve()
    paths = [path, *(p for p in recent_sections() if p != path)][:_MOST]
    with contextlib.suppress(OSError):
        _file().parent.mkdir(parents=True, exist_ok=True)
        _file().write_text(json.dumps([str(p) for p in paths], indent=1), encoding="utf-8")


def _file() -> Path:
    return user_data() / "recent.json"
