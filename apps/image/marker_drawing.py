"""Burnt-in markers as radiographs carry them, drawn on a picture: letters of lead, a word, a ruler.

White with a dark edge, so that they show on any ground. Letters come from the font that Pillow carries, so
the same marker is the same pixels wherever it is drawn with the same Pillow. A marker stands in a corner of
the part that the model sees: outside it would be no test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from ttr.apps.image.framing import Frame
from ttr.errors import OptionError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

Kind = Literal["L", "R", "PORTABLE", "ruler"]
Corner = Literal["top left", "top right", "bottom left", "bottom right"]
KINDS: tuple[Kind, ...] = get_args(Kind)
CORNERS: tuple[Corner, ...] = get_args(Corner)
SMALLEST, LARGEST = 0.04, 0.4
WHITE, EDGE = (245, 245, 245), (24, 24, 24)
#: Distance from the border, in shares of the shorter side of the seen part.
MARGIN = 0.03
#: A ruler's length in heights of a letter, and its parts; every fifth tick is longer.
RULER_LENGTH, TICKS = 4, 10


@dataclass(frozen=True)
class Marker:
    """What is burnt in, and where.

    Attributes:
        kind: "L", "R", "PORTABLE" or "ruler".
        corner: of the part that the model sees.
        size: height of the letters in shares of that part's shorter side, 0.04..0.4; a word that would not
            fit beside the margins is drawn smaller, and a ruler is four times as long, up to the margins.
    """

    kind: Kind = "L"
    corner: Corner = "top left"
    size: float = 0.14

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.corner not in CORNERS:
            raise OptionError(
                f"marker {self.kind!r} in the {self.corner!r}; needed one of {', '.join(KINDS)}, and one of "
                f"{', '.join(CORNERS)}"
            )
        if not SMALLEST <= self.size <= LARGEST:
            raise OptionError(f"size={self.size}; needed a share of the picture, {SMALLEST}..{LARGEST}")

    def __str__(self) -> str:
        """Return it in words."""
        name = "the ruler" if self.kind == "ruler" else f"“{self.kind}”"
        return f"{name}, {self.corner}"


def draw_marker(image: Image, marker: Marker, frame: Frame) -> Image:
    """Return an RGB copy of a picture with a marker in a corner of the part ``frame`` of it."""
    from PIL import ImageDraw

    marked = image.convert("RGB").copy()
    box = frame.box(marked.size)
    canvas = ImageDraw.Draw(marked)
    if marker.kind == "ruler":
        _ruler(canvas, marker, box)
    else:
        _letters(canvas, marker, box)
    return marked


def _letters(canvas: ImageDraw, marker: Marker, box: tuple[int, int, int, int]) -> None:
    from PIL import ImageFont

    room = box[2] - box[0] - 2 * _margin(box)
    height = max(4.0, marker.size * _side(box))
    for _ in range(2):  # a capital is about .7 of its font's size; the second turn makes it fit
        font = ImageFont.load_default(size=height / 0.7)
        stroke = max(1, round(height / 10))
        left, top, right, bottom = canvas.textbbox((0, 0), marker.kind, font=font, stroke_width=stroke)
        if right - left <= room:
            break
        height *= room / (right - left)
    x, y = _place(marker.corner, box, (right - left, bottom - top))
    canvas.text(
        (x - left, y - top), marker.kind, font=font, fill=WHITE, stroke_width=stroke, stroke_fill=EDGE
    )


def _ruler(canvas: ImageDraw, marker: Marker, box: tuple[int, int, int, int]) -> None:
    unit = max(4.0, marker.size * _side(box))
    length = min(RULER_LENGTH * unit, box[3] - box[1] - 2 * _margin(box))
    thick = max(1, round(unit / 12))
    width = max(3 * thick, unit / 2)
    x, y = _place(marker.corner, box, (width, length))
    left = marker.corner.endswith("left")
    spine = x if left else x + width
    lines = [((spine, y), (spine, y + length))]
    for tick in range(TICKS + 1):
        reach = width if tick % 5 == 0 else width / 2
        at = y + length * tick / TICKS
        lines.append(((spine, at), (spine + reach if left else spine - reach, at)))
    for fill, extra in ((EDGE, 2 * max(1, thick // 2)), (WHITE, 0)):
        for line in lines:
            canvas.line(line, fill=fill, width=thick + extra)


def _place(corner: Corner, box: tuple[int, int, int, int], size: tuple[float, float]) -> tuple[float, float]:
    """Return the upper left end of something of a size in a corner, a margin away from the border."""
    left, top, right, bottom = box
    margin, (width, height) = _margin(box), size
    x = left + margin if corner.endswith("left") else right - margin - width
    y = top + margin if corner.startswith("top") else bottom - margin - height
    return x, y


def _side(box: tuple[int, int, int, int]) -> int:
    return min(box[2] - box[0], box[3] - box[1])


def _margin(box: tuple[int, int, int, int]) -> float:
    return MARGIN * _side(box)
