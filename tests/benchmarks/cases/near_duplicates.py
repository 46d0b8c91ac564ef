"""How well perceptual hashes, and the test behind them, tell copies from images that look alike.

Copies are the two bundled samples and 24 phantom images, edited as files get edited on their way into two
folders. Others are all pairs of the 540 phantom images (of three seeds), the mirrored samples, and simulated
patients of one device: a sample bent by a smooth random warp of 2 % of its side.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator, Sequence

import imagehash
import numpy as np
from PIL import Image, ImageEnhance, ImageOps
from scipy.ndimage import gaussian_filter, map_coordinates

from tests.benchmarks.results import LeftOut, Row, Tabled
from tests.benchmarks.settings import Settings
from ttr.datasets.likeness import DISTANCE, SAME, near_pairs, thumbnail
from ttr.datasets.registry import open_dataset, open_image, sample_paths

HASHES: dict[str, Callable[[Image.Image], imagehash.ImageHash]] = {
    "phash 8": lambda image: imagehash.phash(image, 8),
    "phash 16": lambda image: imagehash.phash(image, 16),
    "dhash 8": lambda image: imagehash.dhash(image, 8),
}


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    """Return the image as it comes back from a JPEG file."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def crop(image: Image.Image) -> Image.Image:
    """Cut 2 % off the width and the height, half of it on each side."""
    x, y = (round(side * 0.01) for side in image.size)
    return image.crop((x, y, image.width - x, image.height - y))


def scaled(image: Image.Image, factor: float) -> Image.Image:
    """Resize by a factor."""
    return image.resize([round(side * factor) for side in image.size], Image.Resampling.BICUBIC)


EDITS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG 90": lambda image: jpeg(image, 90),
    "JPEG 50": lambda image: jpeg(image, 50),
    "half size": lambda image: scaled(image, 0.5),
    "1.5 times the size": lambda image: scaled(image, 1.5),
    "brightness +20 %": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "brightness -20 %": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "contrast +20 %": lambda image: ImageEnhance.Contrast(image).enhance(1.2),
    "turned 1 degree": lambda image: image.rotate(1, Image.Resampling.BICUBIC),
    "cropped 2 %": crop,
    "cropped, half size, JPEG 75": lambda image: jpeg(scaled(crop(image), 0.5), 75),
}


def bent(image: Image.Image, random: np.random.Generator, share: float = 0.02) -> Image.Image:
    """Warp smoothly by ``share`` of the width (SD), as another patient before the same device."""
    pixels = np.asarray(image).astype(float)
    height, width = pixels.shape[:2]
    shift = np.stack([gaussian_filter(random.normal(size=(height, width)), width / 8) for _ in "yx"])
    shift *= share * width / shift.std()
    places = np.mgrid[:height, :width] + shift
    planes = [map_coordinates(plane, places, order=1, mode="nearest") for plane in np.moveaxis(pixels, -1, 0)]
    return Image.fromarray(np.stack(planes, -1).round().clip(0, 255).astype(np.uint8))


def distances(thumbs: Sequence[np.ndarray], name: str) -> np.ndarray:
    """Return the Hamming distances of all pairs, [n, n]."""
    bits = np.stack([HASHES[name](Image.fromarray(thumb)).hash.ravel() for thumb in thumbs]) * 2.0 - 1
    return (bits.shape[1] - bits @ bits.T) / 2


def correlation(one: np.ndarray, two: np.ndarray) -> float:
    """Return the correlation of two thumbnails' details."""
    return next(near_pairs([one, two], distance=256, correlation=-1)).correlation


Pairs = dict[str, list[tuple[np.ndarray, np.ndarray]]]


def near_duplicates(settings: Settings) -> Iterator[Row]:
    """Yield a table a hash, and one of the correlation behind them."""
    if settings.quick:
        yield LeftOut(case="near-duplicates", what="all tables", reason="takes minutes; leave out --quick")
        return
    samples = [open_image(path) for path in sample_paths().values()]
    phantoms = open_dataset("phantom")
    originals = [*samples, *(phantoms.open(item) for item in phantoms.items[:24])]
    copies: Pairs = {
        edit: [(thumbnail(image), thumbnail(change(image))) for image in originals]
        for edit, change in EDITS.items()
    }
    others = look_alikes(samples)
    sets = {
        seed: [thumbnail(dataset.open(item)) for item in dataset.items]
        for seed in range(3)
        for dataset in [open_dataset("phantom", seed=seed)]
    }
    yield from (by_bits(name, copies, others, sets[0]) for name in HASHES)
    yield by_correlation(copies, others, sets)


def look_alikes(samples: list[Image.Image]) -> Pairs:
    """Return pairs that are no copies: mirrored samples, and simulated patients of one device."""
    random = np.random.default_rng(0)
    patients = [[image, *(bent(image, random) for _ in range(14))] for image in samples]
    return {
        "mirrored sample": [(thumbnail(image), thumbnail(ImageOps.mirror(image))) for image in samples],
        "other patient, same device": [
            pair for group in patients for pair in itertools.combinations(map(thumbnail, group), 2)
        ],
    }


def by_bits(name: str, copies: Pairs, others: Pairs, phantoms: list[np.ndarray]) -> Tabled:
    """Return what a hash finds and takes wrongly, by how many bits may differ."""
    found = np.array([distances(pair, name)[0, 1] for pairs in copies.values() for pair in pairs])
    wrong = np.array([distances(pair, name)[0, 1] for pairs in others.values() for pair in pairs])
    drawn = distances(phantoms, name)[np.triu_indices(len(phantoms), 1)]
    rows = []
    for bits in (*range(13), *((16, 20, 24, 28, 32) if name == "phash 16" else ())):
        hits, false, pairs = (int((part <= bits).sum()) for part in (found, wrong, drawn))
        precision, beside = hits / max(hits + false, 1), hits / max(hits + false + pairs, 1)
        rows.append((bits, hits / len(found), precision, false, beside, pairs))
    return Tabled(
        case="near-duplicates",
        title=f"{name}: {len(found)} copies, {len(wrong)} mirrored or others, {len(drawn)} phantom pairs",
        columns=(
            *("bits", "recall", "precision", "others taken"),
            *("precision with phantoms", "phantom pairs taken"),
        ),
        rows=tuple(rows),
    )


def by_correlation(copies: Pairs, others: Pairs, sets: dict[int, list[np.ndarray]]) -> Tabled:
    """Return which pairs are called one picture, which look alike, and which are neither."""
    rows: list[tuple[str | float | int, ...]] = []
    for name, pairs in {**copies, **others}.items():
        scores = [correlation(*pair) for pair in pairs]
        grades = [next((p.correlation >= SAME for p in near_pairs(pair)), None) for pair in pairs]
        most = int(max(distances(pair, "phash 16")[0, 1] for pair in pairs))
        counts = (grades.count(grade) for grade in (True, False, None))
        rows.append((f"{name} ({len(pairs)})", min(scores), max(scores), most, *counts))
    for seed, thumbs in sets.items():
        near = list(near_pairs(thumbs))
        same = sum(pair.correlation >= SAME for pair in near)
        total = len(thumbs) * (len(thumbs) - 1) // 2
        highest = max(pair.correlation for pair in near)
        counts = (same, len(near) - same, total - len(near))
        rows.append((f"phantoms of seed {seed} ({total})", "", highest, "", *counts))
    return Tabled(
        case="near-duplicates",
        title=f"Correlation of details: one picture is phash 16 within {DISTANCE} bits, then at least {SAME}",
        columns=("pairs", "lowest", "highest", "most bits", "one picture", "look-alike", "neither"),
        rows=tuple(rows),
    )
