"""A form of fine-tuning's settings, made from what ``finetune_config`` knows of them: the two cannot drift apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from magicgui.widgets import CheckBox, ComboBox, Container, FloatSpinBox, SpinBox
from qtpy.QtWidgets import QVBoxLayout, QWidget

from stplm.tasks.finetune_config import LORA, MAIN, FinetuneConfig, Setting, settings
from stplm_napari.widgets.common import compact
from stplm_napari.widgets.style import text

_MOST = 1_000_000
_SHOWN_IF: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "focal_gamma": ("loss", ("focal",)),
    "weight_cap": ("loss", ("balanced", "focal")),
}
"""Fields that say nothing unless another has one of these values."""


class SettingsForm:
    """Every field of ``FinetuneConfig``: :attr:`main` in view, :attr:`advanced` by group."""

    def __init__(self) -> None:
        self.fields = {name: _field(setting) for name, setting in settings().items()}
        by_group: dict[str, list[str]] = {}
        for name, setting in settings().items():
            by_group.setdefault(setting.group, []).append(name)
        self._forms = {group: self._form(names) for group, names in by_group.items()}
        self.main = self._forms[MAIN]
        self.advanced = QWidget()
        layout = QVBoxLayout(self.advanced)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        self._headings = {group: text(group, "name", wrap=False) for group in by_group if group != MAIN}
        for group, heading in self._headings.items():
            layout.addWidget(heading)
            layout.addWidget(self._forms[group].native)
        compact(*(f for f in self.fields.values() if isinstance(f, ComboBox)))
        self.on_change(self._show_what_matters)
        self._show_what_matters()

    @property
    def forms(self) -> list[Container[Any]]:
        """The groups' forms, the main one first."""
        return [self.main, *(form for form in self._forms.values() if form is not self.main)]

    def config(self) -> FinetuneConfig:
        """What is chosen. Raises ValueError where it makes no sense."""
        return FinetuneConfig(**{name: self._value(name) for name in self.fields})

    def show(self, values: Mapping[str, Any]) -> None:
        """Put values into the fields that are named."""
        for name, value in values.items():
            self.fields[name].value = value

    def reset(self) -> None:
        """Back to the defaults."""
        self.show({name: setting.default for name, setting in settings().items()})

    def changed_from_defaults(self) -> list[str]:
        """Labels of the fields that differ from their defaults."""
        return [s.label for name, s in settings().items() if self._value(name) != s.default]

    def on_change(self, call: Callable[[], Any]) -> None:
        """Call when anything is chosen."""
        for form in self._forms.values():
            form.changed.connect(lambda *_: call())

    def _value(self, name: str) -> Any:
        value, kind = self.fields[name].value, settings()[name].kind
        return round(float(value), 10) if kind is float else value

    def _form(self, names: list[str]) -> Container[Any]:
        form: Container[Any] = Container(widgets=[self.fields[name] for name in names], labels=True)
        form.margins = (0, 0, 0, 0)
        return form

    def _show_what_matters(self) -> None:
        lora = self._value("method") == "lora"
        self._headings[LORA].setVisible(lora)
        self._forms[LORA].native.setVisible(lora)
        for name, (other, values) in _SHOWN_IF.items():
            self.fields[name].visible = self._value(other) in values


def _field(setting: Setting) -> Any:
    unit = f" ({setting.unit})" if setting.unit else ""
    said = len(unit) > 12 or setting.unit == setting.label.lower()
    shared = {"name": setting.name, "label": setting.label + ("" if said else unit), "value": setting.default}
    default = setting.choices[setting.default] if setting.choices else str(setting.default).replace("True", "on")
    shared["tooltip"] = f"{setting.help}\nUnit: {setting.unit or 'none'}. Default: {default}."
    if setting.choices:
        return ComboBox(choices=[(words, value) for value, words in setting.choices.items()], **shared)
    if setting.kind is bool:
        return CheckBox(text=shared.pop("label"), **shared)
    low = setting.low if setting.low is not None else -_MOST
    high = setting.high if setting.high is not None else _MOST
    if setting.kind is int:
        return SpinBox(min=int(low), max=int(high), **shared)
    step = _step(setting)
    return FloatSpinBox(min=low + step * setting.above, max=high - step * setting.below, step=step, **shared)


def _step(setting: Setting) -> float:
    """A hundredth of the default's order of magnitude at the finest, so that small rates can be set."""
    if not setting.default:
        return 1.0 if setting.high is None else 0.01
    return float(10 ** math.floor(math.log10(setting.default) - 1))
