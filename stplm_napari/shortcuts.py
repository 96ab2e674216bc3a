"""The keys that work on the canvas, and what they do; the help panel lists this table. No Qt."""

from __future__ import annotations

from stplm_napari.tools import BRUSH, CLEAR, CLICK, LASSO, POLYGON, REGION, SELECT

TOOL_KEYS = {CLICK: "S", LASSO: "L", POLYGON: "P", BRUSH: "B"}
MODE_KEYS = {CLEAR: "E", SELECT: "A", REGION: "R"}
NEXT_KEY, ACCEPT_KEY, SKIP_KEY = "N", "Y", "K"
"""Of the suggested cells; Enter accepts too, while no polygon is being drawn."""

HELP: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Classes",
        (
            ("1 to 9", "Choose the class"),
            ("Click", "Give a cell the class"),
            ("Right click", "Take a cell's label away"),
            ("Ctrl-Z", "Undo"),
            ("Ctrl-Shift-Z", "Redo"),
        ),
    ),
    (
        "Cells worth labelling",
        (
            (NEXT_KEY, "Fly to the next one; the next that disagrees, while the tissue shows disagreements"),
            (f"Enter or {ACCEPT_KEY}", "Accept the class that is called"),
            ("1 to 9", "Give it this class instead"),
            (SKIP_KEY, "Skip it: it is not asked about again"),
            ("Esc", "Leave it; the keys are the tools' again"),
        ),
    ),
    (
        "Tools",
        (
            (TOOL_KEYS[CLICK], "Single cells"),
            (TOOL_KEYS[LASSO], "Lasso: drag around cells"),
            (TOOL_KEYS[POLYGON], "Polygon: click its corners"),
            ("Enter, double click", "Close the polygon"),
            ("Backspace", "Take its last corner back"),
            (TOOL_KEYS[BRUSH], "Brush: drag over cells"),
            ("[ and ]", "Smaller and larger brush"),
            ("Esc", "Drop what is being drawn, or the selection"),
        ),
    ),
    (
        "What a tool does",
        (
            (MODE_KEYS[CLEAR], "Clear labels instead of giving them, on and off"),
            (MODE_KEYS[SELECT], "Select cells, on and off"),
            (MODE_KEYS[REGION], "Draw a named region, on and off"),
            ("Shift while drawing", "Clear labels; when selecting, add to the selection"),
        ),
    ),
    (
        "On the map",
        (
            ("Drag", "Select the cells around which it goes; with Shift, add them"),
            ("Double click", "Show the cell on the tissue"),
            ("1 to 9, then Enter", "Label the selected cells"),
            ("Home", "The whole map"),
        ),
    ),
    (
        "View",
        (
            ("Space held, or middle button", "Move the view while a tool draws"),
            ("Wheel", "Zoom"),
            ("D, Shift-D", "Next and previous disagreement, while the tissue shows them"),
            ("?", "This list"),
        ),
    ),
)
