"""The sample section of File › Open Sample. Its path depends on the installation, so the manifest names it by a URI."""

from __future__ import annotations

from pathlib import Path

SCHEME = "stplm://sample/"


def resolve(path: str) -> Path:
    """The path of a section; ``stplm://sample/demo_section`` is the one that ships. StplmError when it is missing."""
    if not path.startswith(SCHEME):
        return Path(path)
    from stplm.paths import resource

    return resource(path.removeprefix(SCHEME).strip("/"))
