"""The errors a user may see. Each says where, what was found, what was expected, and how to mend it."""

from __future__ import annotations

from pathlib import Path


class StplmError(Exception):
    """Base of all errors that STPLM raises on purpose.

    Parameters
    ----------
    problem
        One sentence, in the user's words.
    where
        The file, element or column it is about.
    found, expected
        What was there, and what should have been.
    mend
        What the user can do about it.
    """

    def __init__(
        self,
        problem: str,
        *,
        where: str | Path | None = None,
        found: str | None = None,
        expected: str | None = None,
        mend: str | None = None,
    ) -> None:
        self.problem, self.where = problem, None if where is None else str(where)
        self.found, self.expected, self.mend = found, expected, mend
        parts = [problem]
        for title, text in (("Where", self.where), ("Found", found), ("Expected", expected), ("What to do", mend)):
            if text:
                parts.append(f"{title}: {text}")
        super().__init__("\n".join(parts))


class SectionError(StplmError):
    """A section cannot be read, or what was read is not a section."""


class GeneError(StplmError):
    """Genes do not match: another species, unknown ids, an empty panel."""


class LabelError(StplmError):
    """Labels are missing, of one class only, or of cells that are not in the section."""


class ModelError(StplmError):
    """A model folder is damaged, of another format, or does not fit."""


class ExportError(StplmError):
    """Something cannot be written, or what was written does not read back."""


class Cancelled(StplmError):
    """Raised by a progress callback to stop a job. The engine leaves its input as it was."""

    def __init__(self, problem: str = "Cancelled.") -> None:
        super().__init__(problem)
