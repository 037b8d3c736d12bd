"""Stored frames -> RGB, on the device that they are on."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ...video.pixels import Layout, Pixels

_AT_ONCE = 1 << 25  # pixels, of which each takes 12 bytes on the way


def to_rgb(stored: Tensor, layout: Layout, tables: Mapping[Pixels, Tensor]) -> Tensor:
    """uint8 (n, layout.frame_bytes) -> uint8 RGB (n, height, width, 3), which may be a view.

    `tables`: of `rgb_table`, as int32, on the same device; one of the layout's pixels has to be there.
    """
    height, width = layout.height, layout.width
    if layout.pixels == Pixels.RGB:
        return stored.view(-1, height, width, 3)
    parts = stored.split(max(1, _AT_ONCE // (height * width)))
    found = [_looked_up(part, layout, tables[layout.pixels]) for part in parts]
    return found[0] if len(found) == 1 else torch.cat(found)


def _looked_up(stored: Tensor, layout: Layout, table: Tensor) -> Tensor:
    n, planes = len(stored), layout.planes
    sizes = [rows * width for rows, width in planes]
    y, u, v = (part.view(n, *shape) for part, shape in zip(stored.split(sizes, 1), planes, strict=True))
    rows, width = planes[1]
    chroma = (v.int() << 16 | u.int() << 8)[:, :, None, :, None].expand(n, rows, 2, width, 2)
    entries = chroma.reshape(n, 2 * rows, 2 * width)[:, : layout.height, : layout.width] | y
    colours = table.index_select(0, entries.flatten())
    return colours.view(torch.uint8).view(n, layout.height, layout.width, 4)[..., :3]
