"""Instances of one series that are compared together: few enough for memory and disk, the same every time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from ttr.digests import sha256
from ttr.hospital.web.archive import Instance, Series

#: Images that are compared together, whose results lie on the disk together: of a large radiograph 150 MB
#: each. And frames that one instance may have.
MOST_IMAGES, MOST_FRAMES = 16, 512
#: Modalities whose series hold no pictures (PS3.3, C.7.3.1.1.1).
NO_PICTURES = frozenset(
    (
        *("ANN", "ASMT", "AU", "DOC", "ECG", "EEG", "EMG", "EOG", "EPS", "FID", "HD", "KO", "M3D", "PLAN"),
        *("PR", "REG", "RESP", "RTDOSE", "RTINTENT", "RTPLAN", "RTRECORD", "RTSEGANN", "RTSTRUCT", "RWV"),
        *("SEG", "SMR", "SR", "STAIN", "TEXTUREMAP"),
    )
)


@dataclass(frozen=True)
class Batch:
    """Some instances of a series, in the order of their UIDs."""

    series: Series
    instances: tuple[Instance, ...]

    @property
    def name(self) -> str:
        """The name of its results: the series, and which instances of it."""
        uids = "\n".join(each.uid for each in self.instances)
        return f"{self.series.series}-{sha256([uids], digits=12)}"


def batches_of(series: Series, instances: Sequence[Instance]) -> Iterator[Batch]:
    """Yield the instances of a series in batches of about :data:`MOST_IMAGES` frames."""
    waiting = iter(sorted(instances, key=lambda each: each.uid))
    while taken := tuple(_some(waiting)):
        yield Batch(series, taken)


def _some(waiting: Iterator[Instance]) -> Iterable[Instance]:
    frames = 0
    while frames < MOST_IMAGES and (following := next(islice(waiting, 1), None)) is not None:
        frames += following.frames
        yield following
