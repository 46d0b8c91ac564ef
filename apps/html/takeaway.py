"""What a visitor takes away of one image: a ZIP of maps and numbers, or a page of each choice as PDF.

Both carry the provenance and the disclaimer, and neither carries any DICOM tag. The image is named as its
visitor named the file, shortened, so that no patient is taken for another, and by the SHA-256 of its file.
Maps come at the picture's full resolution.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from ttr.analysis.faithfulness import grade
from ttr.apps.html.beside import called, clipped
from ttr.apps.html.panels import Look
from ttr.apps.html.viewer import SIDES
from ttr.apps.image.case import Case
from ttr.apps.image.framing import Frame
from ttr.apps.image.plate import shown_window
from ttr.drawing.maps import ATTENTION_MAP, NORM_MAP, colourise
from ttr.drawing.regions import CONTOURS, boxes, edges, first_of_log, shares
from ttr.studies.compare.page import rows
from ttr.wording import DISCLAIMER, counted, percent, shortened

SCHEMA = "ttr.study/1"
NOTE = (
    f"{DISCLAIMER}\n\nA cleaner map is not a more faithful one: read the faithfulness in numbers.json before "
    "the map. Pixels may hold burnt-in text; look at the pictures before you pass them on.\n"
)


def zip_of(case: Case, look: Look) -> bytes:
    """Return a ZIP: image.png, both maps of each run as PNG, numbers.json, provenance.json, README.txt.

    What a second choice shows is named ``beside-``; each pair of maps is on a scale of its own.
    """
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, picture in pictures(case, look):
            archive.writestr(f"{name}.png", png(picture))
        if case.beside is not None:
            for name, picture in pictures(case.beside, clipped(look, case.beside)):
                archive.writestr(f"beside-{name}.png", png(picture))
        archive.writestr("numbers.json", json.dumps(numbers(case, look), indent=1, allow_nan=False))
        made_with = dict(case.inspection.comparison.provenance)
        archive.writestr("provenance.json", json.dumps(made_with, indent=1))
        archive.writestr("README.txt", f"{named(case)}\n\n{NOTE}")
    return stream.getvalue()


def pictures(case: Case, look: Look) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (name, uint8 [H, W, 3]) at the picture's own resolution; both runs on one scale if asked."""
    found = case.inspection
    pixels = np.asarray(case.picture.image)
    yield "image", pixels
    for kind, colour_map, maps in (
        (
            "attention",
            ATTENTION_MAP,
            [r.attention_map(look.layer, look.head, look.query) for r in found.runs],
        ),
        ("norms", NORM_MAP, [run.norm_map(look.layer) for run in found.runs]),
    ):
        highs = [0.0 if values is None else float(values.max()) for values in maps]
        ends = [max(highs)] * 2 if look.shared else highs
        for (tag, _, _), values, high in zip(SIDES, maps, ends, strict=True):
            if values is not None:
                found_shares = shares(values, 0.0, high, log=look.log)
                yield f"{kind}-{tag}", laid(pixels, found_shares, colour_map, found.frame, look)


def laid(pixels: np.ndarray, found: np.ndarray, colour_map: str, frame: Frame, look: Look) -> np.ndarray:
    """Lay a map over its part of a picture, which keeps its colours, as the page does; uint8 [H, W, 3].

    Args:
        pixels: uint8 [H, W, 3].
        found: where each patch lies on the colour scale, 0..1, [rows, columns].
        colour_map: a matplotlib name.
        frame: the part of the picture that the map is of.
        look: as opaque as its values, all alike, as contours or as boxes; smooth or not.
    """
    from PIL import Image

    box = frame.box((pixels.shape[1], pixels.shape[0]))
    size = (box[2] - box[0], box[3] - box[1])
    picture = Image.fromarray(pixels)
    if look.overlay in ("value", "even"):
        opaque = found if look.overlay == "value" else np.ones_like(found)
        colours = colourise(found, 1.0, colour_map, found.shape)
        alpha = np.rint(255 * look.opacity * opaque).astype(np.uint8)
        way = Image.Resampling.BILINEAR if look.smooth else Image.Resampling.NEAREST
        overlay = Image.fromarray(np.dstack([colours, alpha]), "RGBA").resize(size, way)
        picture.paste(overlay.convert("RGB"), box[:2], overlay.getchannel("A"))
    else:
        _draw_lines(picture, found, colour_map, box, look.overlay)
    return np.asarray(picture)


def _draw_lines(picture: Any, found: np.ndarray, colour_map: str, box: Any, overlay: str) -> None:
    from PIL import ImageDraw

    drawing, (rows, columns) = ImageDraw.Draw(picture), found.shape
    left, top, right, bottom = box
    across, down = (right - left) / columns, (bottom - top) / rows
    width = max(1, round(min(right - left, bottom - top) / 200))
    lines: list[tuple[tuple[int, ...], Any]] = [
        (corners, tuple(colourise(np.array([[level]]), 1.0, colour_map, (1, 1))[0, 0].tolist()))
        for level in CONTOURS
        for corners in edges(found, level)
    ]
    if overlay == "box":
        sides = ((0, 1, 2, 1), (0, 3, 2, 3), (0, 1, 0, 3), (2, 1, 2, 3))
        lines = [(tuple(each[i] for i in side), (255, 255, 255)) for each in boxes(found) for side in sides]
    for thickness, is_rim in ((2 * width + 1, True), (width, False)):
        for (x1, y1, x2, y2), colour in lines:
            at = [left + x1 * across, top + y1 * down, left + x2 * across, top + y2 * down]
            drawing.line(at, fill=(0, 0, 0) if is_rim else colour, width=thickness)


def numbers(case: Case, look: Look) -> dict[str, Any]:
    """Return all numbers of a case as JSON values."""
    found, picture = case.inspection, case.picture
    entry = {**found.comparison.to_json(), "image": picture.sha256}
    answer, second = case.answer, case.beside
    beside = {} if second is None else {"beside": numbers(second, clipped(look, second))}
    return {
        "schema": SCHEMA,
        **entry,
        "model": case.model,
        "neurons": {"source": case.neurons, "count": found.num_neurons},
        "image_file": file_of(case),
        "window": window_of(case),
        "seen_part": vars(found.frame),
        "look": vars(look),
        "answer": None if answer is None else vars(answer),
        "warnings": list(case.cautions),
        **beside,
        "disclaimer": DISCLAIMER,
    }


def file_of(case: Case) -> dict[str, Any]:
    """Return what is known of a case's file as JSON values; of its tags, nothing."""
    picture = case.picture
    return {
        "name": shortened(picture.name),
        "kind": picture.kind,
        "sha256": picture.sha256,
        "size": list(picture.image.size),
        **(
            {}
            if (part := picture.slice) is None
            else {"frame": part.frame, "slice": [part.index + 1, part.of]}
        ),
    }


def window_of(case: Case) -> list[float] | None:
    """Return centre and width in which a case's picture is shown and was seen; None: it has no window."""
    behind = case.picture.radiograph
    if behind is None or behind.values.ndim == 3:
        return None
    return list(shown_window(behind, case.picture.window))


def pdf_of(case: Case, look: Look) -> bytes:
    """Return a page of each choice (:func:`page_of`) as PDF."""
    from matplotlib.backends.backend_pdf import PdfPages

    stream = io.BytesIO()
    about = {"Title": "Before and after test-time registers", "Subject": DISCLAIMER}
    with PdfPages(stream, metadata=about) as pages:
        pages.savefig(page_of(case, look))
        if case.beside is not None:
            pages.savefig(page_of(case.beside, clipped(look, case.beside)))
    return stream.getvalue()


def page_of(case: Case, look: Look) -> Any:
    """Return one A4 page as a figure: maps with their scale, numbers, warnings, provenance."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.27, 11.69))
    figure.text(0.08, 0.955, "Before and after test-time registers", size=15, weight="bold")
    figure.text(0.08, 0.937, _drawable(f"{named(case)} · {called(case)}"), size=8, parse_math=False)
    shown = dict(pictures(case, look))
    found = case.inspection
    for row, (kind, colour_map, label) in enumerate(
        (
            ("attention", ATTENTION_MAP, f"attention of {look.query}, block {look.layer}"),
            ("norms", NORM_MAP, f"patch norms, block {look.layer}"),
        )
    ):
        for column, (tag, name, _) in enumerate(SIDES):
            axes = figure.add_axes((0.08 + 0.43 * column, 0.64 - 0.29 * row, 0.41, 0.26))
            axes.set_axis_off()
            axes.set_title(f"{name}: {label}", size=8, loc="left")
            if f"{kind}-{tag}" in shown:
                axes.imshow(shown[f"{kind}-{tag}"], interpolation="none")
                _bar(figure, axes, _high(found, kind, look, column), colour_map, log=look.log)
    _text(figure, case)
    return figure


def _high(found: Any, kind: str, look: Look, column: int) -> float:
    maps = [
        run.norm_map(look.layer) if kind == "norms" else run.attention_map(look.layer, look.head, look.query)
        for run in found.runs
    ]
    highs = [0.0 if values is None else float(values.max()) for values in maps]
    return max(highs) if look.shared else highs[column]


def _bar(figure: Any, axes: Any, high: float, colour_map: str, *, log: bool) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.ticker import MaxNLocator

    scale = LogNorm(first_of_log(0.0, high), high) if log and high > 0 else Normalize(0, high or 1)
    bar = figure.colorbar(
        ScalarMappable(scale, colour_map),
        ax=axes,
        orientation="horizontal",
        pad=0.02,
        shrink=0.9,
    )
    if not log:
        bar.locator = MaxNLocator(5)
        bar.update_ticks()
    bar.ax.tick_params(labelsize=7)


def _text(figure: Any, case: Case) -> None:
    import textwrap

    before, after = case.inspection.comparison.before, case.inspection.comparison.after
    lines = [f"{row.label}:  {row.before}  →  {row.after}" for row in rows([before], [after])]
    words = grade(before.trust), grade(after.trust)
    ends = "before and after" if words[0] == words[1] else f"before and {words[1]} after"
    lines.append(f"the map is {words[0]} {ends}")
    if case.answer is not None:
        checked = (
            f"calibrated on {counted(case.answer.calibrated_on, 'image')}"
            if case.answer.calibrated_on
            else "not calibrated"
        )
        lines += [f"{name}:  {percent(b)}  →  {percent(a)}  ({checked})" for name, b, a in case.answer.rows]
    figure.text(0.08, 0.315, "\n".join(lines), size=8.5, va="top", linespacing=1.45)
    said = "\n\n".join(textwrap.fill(line, 52) for line in case.cautions)
    figure.text(0.55, 0.315, said, size=8, va="top", color="#5c4300", linespacing=1.4)
    made = dict(case.inspection.comparison.provenance)
    backbone = made["backbone"]
    figure.text(
        0.08,
        0.045,
        f"ttr {made['ttr']} · {made['created']} · {backbone['name']}, {backbone['weights']}, "
        f"hash {backbone['weights_hash']}, {'×'.join(map(str, backbone['image_size']))} px\n{DISCLAIMER}",
        size=7,
        color="#555555",
    )


def named(case: Case) -> str:
    """Return whose image it is, which slice of its stack, and in which window, in a line."""
    name, part, window = shortened(case.picture.name), case.picture.slice, window_of(case)
    said = [name] if name else []
    said += [] if part is None else [f"slice {part.index + 1} of {part.of}"]
    said += [] if window is None else [f"window {window[0]:g} / {window[1]:g}"]
    return f"Image: {', '.join([*said, f'SHA-256 {case.picture.sha256[:16]}'])}"


def _drawable(text: str) -> str:
    """Return a text with a question mark for each letter that the font lacks: it would complain of each."""
    from matplotlib.font_manager import findfont, get_font

    known = get_font(findfont("DejaVu Sans")).get_charmap()
    return "".join(each if ord(each) in known else "?" for each in text)


def png(picture: np.ndarray) -> bytes:
    """Return a picture, uint8 [H, W, 3], as the bytes of a PNG file."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG", compress_level=4)
    return stream.getvalue()
