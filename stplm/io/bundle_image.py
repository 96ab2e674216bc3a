"""``morphology_focus/`` of a Xenium bundle: pyramidal, tiled, lossless OME-TIFF, one file a channel."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import numpy.typing as npt

from stplm.errors import ExportError

CHANNELS = ("DAPI", "ATP1A1/CD45/E-Cadherin", "18S", "AlphaSMA/Vimentin")
"""Channel names of the segmentation kit, in the order of its files; without the kit there is DAPI alone."""
TILE = 512
_SMALLEST = 256
_STRIP = 256
"""Rows of a coarser level that are made at once."""
_NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def write_morphology(folder: Path, image: npt.NDArray[np.uint16], pixel_size: float) -> list[str]:
    """Write ``morphology_focus_0000.ome.tif`` and so on; give the file names.

    ``image`` is (channels, y, x) with one channel (DAPI) or four (the segmentation kit), as Xenium Onboard Analysis
    2 and 3 write them. Levels are halved by means of 2 x 2 pixels until the longer side is at most 256.
    Raises ExportError for another number of channels.
    """
    import tifffile

    if image.ndim != 3 or image.shape[0] not in (1, len(CHANNELS)):
        raise ExportError(
            "A Xenium morphology image has one channel (DAPI) or four.",
            where=folder,
            found=f"an array of shape {image.shape}",
            expected="(1, y, x) or (4, y, x)",
        )
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"morphology_focus_{c:04d}.ome.tif" for c in range(image.shape[0])]
    # A name-based id: the same image gives the same bytes.
    ids = [uuid.uuid5(uuid.NAMESPACE_OID, name) for name in names]
    for channel, name in enumerate(names):
        levels = _pyramid(np.asarray(image[channel]))
        options: dict[str, Any] = {
            "tile": (TILE, TILE),
            "compression": "zlib",
            # Microscope noise does not get smaller by trying harder: level 6 takes three times as long as level 1.
            "compressionargs": {"level": 1},
            "predictor": True,
            "photometric": "minisblack",
            "resolutionunit": "CENTIMETER",
            "metadata": None,
        }
        xml = _ome_xml(image.shape, names, ids, channel, pixel_size)
        with tifffile.TiffWriter(folder / name, bigtiff=image[channel].nbytes > 2**31) as tiff:
            for number, level in enumerate(levels):
                per_cm = 1e4 / (pixel_size * 2**number)
                if number == 0:
                    tiff.write(level, subifds=len(levels) - 1, description=xml, resolution=(per_cm, per_cm), **options)
                else:
                    tiff.write(level, subfiletype=1, resolution=(per_cm, per_cm), **options)
    return names


def _pyramid(level: npt.NDArray[np.uint16]) -> list[npt.NDArray[np.uint16]]:
    levels = [level]
    while max(level.shape) > _SMALLEST and min(level.shape) > 1:
        height, width = (side // 2 for side in level.shape)
        half = np.empty((height, width), dtype=np.uint16)
        for top in range(0, height, _STRIP):
            rows = level[2 * top : 2 * min(top + _STRIP, height), : 2 * width].astype(np.uint32)
            pairs = rows[::2] + rows[1::2]
            # Sums of four 16-bit values fit 32 bits; 2 rounds to nearest.
            half[top : top + _STRIP] = (pairs[:, ::2] + pairs[:, 1::2] + 2) >> 2
        level = half
        levels.append(level)
    return levels


def _ome_xml(
    shape: tuple[int, ...], names: Sequence[str], ids: Sequence[uuid.UUID], channel: int, pixel_size: float
) -> bytes:
    """OME-XML that names all files of a multi-channel image, so that any of them opens the whole."""
    channels = "".join(
        f'<Channel ID="Channel:{c}" Name={quoteattr(CHANNELS[c])} SamplesPerPixel="1"/>' for c in range(shape[0])
    )
    data = "".join(
        f'<TiffData FirstC="{c}" FirstT="0" FirstZ="0" IFD="0" PlaneCount="1">'
        f'<UUID FileName="{names[c]}">urn:uuid:{ids[c]}</UUID></TiffData>'
        for c in range(shape[0])
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{_NAMESPACE}" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:schemaLocation="{_NAMESPACE} {_NAMESPACE}/ome.xsd" UUID="urn:uuid:{ids[channel]}">'
        '<Image ID="Image:0" Name="morphology_focus"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
        f'SizeX="{shape[2]}" SizeY="{shape[1]}" SizeC="{shape[0]}" SizeZ="1" SizeT="1" '
        f'PhysicalSizeX="{pixel_size}" PhysicalSizeXUnit="\u00b5m" PhysicalSizeY="{pixel_size}" '
        f'PhysicalSizeYUnit="\u00b5m">{channels}{data}</Pixels></Image></OME>'
    ).encode()
