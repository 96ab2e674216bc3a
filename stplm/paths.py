"""Where the shipped data lies: inside the package when installed from a wheel, beside it in a checkout."""

from __future__ import annotations

from pathlib import Path

from stplm.errors import StplmError

_PLACES = (Path(__file__).parent / "resources", Path(__file__).parent.parent / "resources")


def resource(name: str) -> Path:
    """Path of a shipped file or folder, e.g. ``resource("demo_section")``. Raises StplmError when it is missing."""
    for place in _PLACES:
        if (path := place / name).exists():
            return path
    raise StplmError(
        f"The shipped resource {name!r} is missing.",
        where=_PLACES[0],
        mend="Install stplm-napari again; the download was incomplete.",
    )
