"""An ablation's pictures for a page: small PNGs at patch resolution, which the browser enlarges in squares.

All conditions, images and queries share one scale a kind, so that equal colours are equal numbers. Where a
condition makes numbers explode, the full model is dark on that scale; so there is a second one, shared as
well, that ends at what the full condition reaches. A map lies over the greyscale input in the browser: no
picture is stored twice.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from ttr.drawing import maps
from ttr.drawing.html import bar
from ttr.studies.ablate.folder import Shown

#: Largest side of an input on the page, px.
SIDE = 280
#: Attention above this share of the maps' numbers takes the last colour: a few sinks would darken all else.
REACH = {"norms": 1.0, "attention": 0.995}
MAPS = {"norms": (maps.NORM_MAP, "{:.1f}"), "attention": (maps.ATTENTION_MAP, "{:.4f}")}
#: Whose numbers a scale spans.
SCALES = ("all", "full")


def panels(shown: Shown) -> dict[str, Any]:
    """Return what a page shows of the pictures.

    Returns:
        ``images``, ``conditions``, ``queries``: names. ``pixels``: [I] data URIs. ``colours``: [C][I].
        ``norms``: {scale: [C][I]} and ``attention``: {scale: [C][I][Q]}, None where a condition lacks the
        query. ``bars``: {kind: {scale: colours and numbers, and the largest value}}. ``gallery``: of each
        register its name and, of its own image and of its mean, the nearest patches (none of the mean in
        folders of earlier versions).
    """
    arrays = shown.arrays
    spans = {kind: _spans(shown, kind) for kind in MAPS}
    return {
        "images": shown.images,
        "conditions": shown.conditions,
        "queries": shown.queries,
        "pixels": [maps.png_uri(_reduced(image)) for image in arrays["pixels"]],
        "colours": [
            [maps.png_uri(np.ascontiguousarray(each)) for each in images] for images in arrays["colours"]
        ],
        **{
            kind: {scale: _uris(arrays[kind], spans[kind][scale], MAPS[kind][0]) for scale in SCALES}
            for kind in MAPS
        },
        "bars": {
            kind: {scale: bar(colour_map, spans[kind][scale]) for scale in SCALES}
            for kind, (colour_map, _) in MAPS.items()
        },
        "largest": {
            kind: pattern.format(float(np.nanmax(arrays[kind]))) for kind, (_, pattern) in MAPS.items()
        },
        "gallery": _gallery(shown),
    }


def _spans(shown: Shown, kind: str) -> dict[str, float]:
    """Return the number of the last colour on each scale."""
    every = shown.arrays[kind]
    full = every[shown.conditions.index("full")] if "full" in shown.conditions else every
    known = {"all": every[np.isfinite(every)], "full": full[np.isfinite(full)]}
    return {
        scale: float(np.quantile(values, REACH[kind])) if values.size else 0.0
        for scale, values in known.items()
    }


def _uris(values: np.ndarray, high: float, colour_map: str) -> Any:
    """Return maps [..., r, c] as nested lists of data URIs."""
    if values.ndim == 2:
        return _map_uri(values.astype(float), high, colour_map)
    return [_uris(each, high, colour_map) for each in values]


def _gallery(shown: Shown) -> list[dict[str, Any]]:
    registers = [query for query in shown.queries if query != "cls"]
    own = _near(shown.nearest, shown.arrays.get("crops", ()))
    of_mean = _near(shown.nearest_mean, shown.arrays.get("crops_mean", ())) or [[] for _ in own]
    return [
        {"name": name, "patches": patches, "of_mean": near}
        for name, patches, near in zip(registers, own, of_mean, strict=False)
    ]


def _near(gallery: list[list[dict[str, Any]]], crops: Any) -> list[list[dict[str, Any]]]:
    return [
        [
            {**patch, "uri": maps.png_uri(np.ascontiguousarray(crop))}
            for patch, crop in zip(patches, pixels, strict=False)
        ]
        for patches, pixels in zip(gallery, crops, strict=False)
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
    picture.save(stream, "PNG", **maps.PNG)
    return maps.uri(stream)
