"""An ablation's pictures for a page: small PNGs at patch resolution, which the browser enlarges in squares.

All conditions, images and queries share one scale a kind, so that equal colours are equal numbers. A map lies
over the greyscale input in the browser: no picture is stored twice.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from ttr import plots
from ttr.ablation.folder import Shown
from ttr.report import bar

#: Largest side of an input on the page, px.
SIDE = 280
#: Attention above this share of the maps' numbers takes the last colour: a few sinks would darken all else.
REACH = 0.995


def panels(shown: Shown) -> dict[str, Any]:
    """Return what a page shows of the pictures.

    Returns:
        ``images``, ``conditions``, ``queries``: names. ``pixels``: [I] data URIs. ``norms`` and ``colours``:
        [C][I]; ``attention``: [C][I][Q], None where a condition lacks the query. ``norm_bar`` and
        ``attention_bar``: the scales. ``gallery``: of each register its name and nearest patches.
    """
    arrays = shown.arrays
    attention = arrays["attention"].astype(float)
    norm_scale = float(np.nanmax(arrays["norms"]))
    known = attention[np.isfinite(attention)]
    attention_scale = float(np.quantile(known, REACH)) if known.size else 0.0
    return {
        "images": shown.images,
        "conditions": shown.conditions,
        "queries": shown.queries,
        "pixels": [plots.png_uri(_reduced(image)) for image in arrays["pixels"]],
        "norms": [
            [_map_uri(each, norm_scale, plots.NORM_MAP) for each in images] for images in arrays["norms"]
        ],
        "colours": [
            [plots.png_uri(np.ascontiguousarray(each)) for each in images] for images in arrays["colours"]
        ],
        "attention": [
            [[_map_uri(each, attention_scale, plots.ATTENTION_MAP) for each in queries] for queries in images]
            for images in attention
        ],
        "norm_bar": bar(plots.NORM_MAP, norm_scale, "{:.1f}"),
        "attention_bar": bar(plots.ATTENTION_MAP, attention_scale, "{:.4f}"),
        "clipped": bool(known.size and known.max() > attention_scale),
        "largest": float(known.max()) if known.size else 0.0,
        "gallery": _gallery(shown),
    }


def _gallery(shown: Shown) -> list[dict[str, Any]]:
    registers = [query for query in shown.queries if query != "cls"]
    return [
        {
            "name": name,
            "patches": [
                {**patch, "uri": plots.png_uri(np.ascontiguousarray(crop))}
                for patch, crop in zip(patches, crops, strict=False)
            ],
        }
        for name, patches, crops in zip(registers, shown.nearest, shown.arrays.get("crops", ()), strict=False)
    ]


def _map_uri(values: np.ndarray, high: float, colour_map: str) -> str | None:
    """Return a patch map on the scale 0..``high`` as a palette PNG, a pixel a patch; None where undefined."""
    import matplotlib
    from PIL import Image

    if not np.isfinite(values).all():
        return None
    scaled = np.clip(values / high, 0, 1) if high > 0 else np.zeros_like(values)
    picture = Image.fromarray((255 * scaled).round().astype(np.uint8), "L")
    palette = (255 * matplotlib.colormaps[colour_map](np.arange(256))[:, :3]).round().astype(np.uint8)
    picture.putpalette(palette.tobytes())
    return _uri(picture)


def _reduced(pixels: np.ndarray) -> np.ndarray:
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((SIDE, SIDE))
    return np.asarray(picture)


def _uri(picture: Any) -> str:
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return plots.uri(stream)
