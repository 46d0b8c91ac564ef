"""Instances as files of a folder, in series: what is one thing of one source series is one series of ours."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ttr.datasets.dicom.origin import Origin
from ttr.files import write_bytes
from ttr.hospital.instance import NewUID, Place, which

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

#: Number of our first series of a study: behind those of devices.
FIRST_SERIES = 9001


@dataclass
class Filing:
    """A folder that is filled.

    Attributes:
        folder: where.
        new_uid: of series and instances.
        files: {name: SOP instance UID} of what was written, in order.
    """

    folder: Path
    new_uid: NewUID
    files: dict[str, str] = field(default_factory=dict)
    _series: dict[tuple[str, str, str], str] = field(default_factory=dict, repr=False)
    _numbers: dict[str, int] = field(default_factory=dict, repr=False)
    _filed: dict[str, int] = field(default_factory=dict, repr=False)

    def place(self, origin: Origin, description: str) -> Place:
        """Return the place of a new instance in the series of that description, beside its source."""
        key = (origin.study, origin.series, description)
        series = self._series[key] if key in self._series else self.new_uid("series", *key)
        self._series[key] = series
        self._filed[series] = self._filed.get(series, 0) + 1
        number = self._numbers.setdefault(description, FIRST_SERIES + len(self._numbers))
        instance = self.new_uid("instance", *which(origin), description)
        return Place(
            series, number, instance, origin.frame or origin.number or self._filed[series], description
        )

    def keep(self, name: str, made: Dataset) -> None:
        """Write an instance as a file of that name.

        Raises:
            OutputError: the folder cannot be written.
        """
        stream = io.BytesIO()
        made.save_as(stream, enforce_file_format=True)
        write_bytes(self.folder / name, stream.getvalue())
        self.files[name] = str(made.SOPInstanceUID)
