"""The image of a section, on the screen while its cells are still being read: of a million, that takes a while."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stplm.errors import SectionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stplm_napari.layers import SectionLayers
    from stplm_napari.prepare import Channel


class Preview:
    """The image layers of the section that a viewer is opening. For the GUI thread, except :meth:`read`."""

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._layers: SectionLayers | None = None

    @staticmethod
    def read(path: Path) -> Sequence[Channel]:
        """The channels of a section's image, for any thread; none where they cannot be read without the cells.

        What is wrong with the section is for whoever reads all of it to say.
        """
        from stplm.io.read import read_images_only
        from stplm_napari.prepare import prepare_images

        try:
            section = read_images_only(path)
        except SectionError:
            return []
        return [] if section is None else prepare_images(section)

    def show(self, channels: Sequence[Channel]) -> None:
        """Show them, in place of those of another section."""
        from stplm_napari.layers import image_layers

        self.drop()
        if channels:
            self._layers = image_layers(channels)
            self._layers.show(self._viewer)

    def hand_over(self, layers: SectionLayers) -> None:
        """Let the section that has been read go on with the layers on the screen, and with the view they are in."""
        shown, self._layers = self._layers, None
        if shown is None:
            return
        if [image.name for image in shown.images] == [image.name for image in layers.images]:
            for image, made in zip(shown.images, layers.images, strict=True):
                image.metadata = made.metadata
            layers.images = shown.images
        else:
            shown.remove()

    def drop(self) -> None:
        """Take them out: the section could not be read."""
        if self._layers is not None:
            self._layers.remove()
            self._layers = None
