"""What is done with a batch: fetched into a private folder, compared, written in DICOM, stored.

UIDs are named after the source, the model, its neurons and all that decides a number
(:func:`ttr.hospital.instance.named_uids`). So the archive itself says what was stored already, whoever stored
it and however that ended, and a record beside it could only be wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path

from ttr.backbones.base import Backbone
from ttr.datasets.dicom.files import addressed, frame_paths
from ttr.datasets.dicom.identity import identity_of
from ttr.datasets.dicom.origin import origin_of
from ttr.datasets.registry import ReadAhead, called, given_images
from ttr.digests import sha256
from ttr.errors import ArchiveError, ImageError, ModelError, NeuronsError, OutputError, TTRError
from ttr.files import MANIFEST, read_bytes, read_json
from ttr.hospital.instance import NewUID, named_uids
from ttr.hospital.web.archive import Archive, Fetch, Instance, NotStoredError, Series
from ttr.private_folders import Kind
from ttr.registers.neurons import RegisterNeurons
from ttr.registers.wrap import TestTimeRegisters
from ttr.run import Run
from ttr.studies.compare.comparison import References, yardstick
from ttr.studies.compare.dicom_out import DicomOut, titles, write_dicom
from ttr.studies.compare.files import compare_files
from ttr.studies.compare.settings import ComparisonSettings
from ttr.studies.pacs.batch import MOST_FRAMES, Batch
from ttr.studies.schemas import DICOM, MOST_MANIFEST, is_result, result_folder
from ttr.version import __version__

#: What no image is to blame for.
NOT_ITS_FAULT = (ArchiveError, OutputError, OSError, ModelError, NeuronsError)
#: Results of one source series in one of ours, at most: frames are images.
MOST_RESULTS = 1_000_000
#: Bytes of one of our own instances, at most: a map of the largest image.
MOST_INSTANCE = 1 << 30
#: A source series -> UIDs of its results that an archive holds.
There = Callable[[Series], set[str]]
FETCHED = Kind(
    "ttr-pacs",
    b"images fetched by ttr; removed by its next start once no process holds a lock on this file\n",
)


@dataclass
class Outcome:
    """What became of a batch.

    Attributes:
        done: images, instances or their frames, whose results are all where they belong.
        stored: instances that were stored now.
        there: instances that the archive had already.
        failed: {UID of an instance: why it has no results, or not all}.
        ours: UIDs of instances that ttr made itself, of which none are made.
    """

    done: int = 0
    stored: int = 0
    there: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    ours: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        """Add what became of others."""
        self.done += other.done
        self.stored += other.stored
        self.there += other.there
        self.failed.update(other.failed)
        self.ours += other.ours


@dataclass(frozen=True)
class Work:
    """How batches are compared.

    Attributes:
        backbone: the bare backbone.
        neurons: its register neurons.
        settings: what is measured.
        run: how; bad images are always left out and recorded.
        keep_patient: whether the patient and the visit are copied from the source.
    """

    backbone: Backbone
    neurons: RegisterNeurons
    settings: ComparisonSettings
    run: Run
    keep_patient: bool

    @cached_property
    def uid(self) -> NewUID:
        """UIDs of all that this model makes with these settings."""
        rule, layer = yardstick(
            self.backbone, self.neurons, self.settings.threshold, self.settings.outlier_layer
        )
        decisive = {
            "ttr": __version__,
            "backbone": self.backbone.name,
            "weights": self.backbone.weights_hash,
            "size": list(self.backbone.image_size),
            "dtype": str(self.backbone.dtype),
            "neurons": [list(pair) for pair in self.neurons.pairs],
            "registers": [self.settings.num_registers, self.settings.variant],
            "outliers": [rule, layer],
            "patient": self.keep_patient,
        }
        return named_uids(json.dumps(decisive, sort_keys=True))

    @cached_property
    def references(self) -> References:
        """What features are centred on, the library's: an image's numbers depend on no other of its batch."""
        count, variant = self.settings.num_registers, self.settings.variant
        wrap = TestTimeRegisters(self.backbone, self.neurons, num_registers=count, variant=variant)
        return References.of(self.backbone, wrap, None)

    def series_of(self, source: Series) -> list[Series]:
        """Return the series that results of a source belong to."""
        named = (self.uid("series", source.study, source.series, title) for title in titles())
        return [Series(source.study, uid) for uid in named]

    def expected(self, instance: Instance) -> set[str]:
        """Return the UIDs of all results of an instance, of more frames than are read not of all."""
        most = min(instance.frames, MOST_FRAMES + 1)
        frames = range(1, most + 1) if most > 1 else ("",)
        return {
            self.uid("instance", instance.uid, str(frame), title) for frame in frames for title in titles()
        }

    def there(self, archive: Archive | None) -> There:
        """Return what says which results of a source series an archive holds; it asks once for many batches.

        What is stored with its help is added.
        """

        @lru_cache(maxsize=1)
        def asked(source: Series) -> set[str]:
            if archive is None:
                return set()
            ours = self.series_of(source)
            return {each.uid for series in ours for each in archive.instances(series, MOST_RESULTS)}

        return asked

    def do(
        self,
        batch: Batch,
        fetch: Fetch,
        archive: Archive | None,
        keep: Path | None,
        there: There | None = None,
    ) -> Outcome:
        """Bring the results of a batch to where they belong, and those that are there not again.

        Args:
            batch: the instances.
            fetch: brings one of them.
            archive: where results are stored; None: nowhere.
            keep: folder that keeps them, each batch in a folder of its own; None: none.
            there: what :meth:`there` returned, shared by batches; None: the archive is asked now.

        Returns:
            What became of it; where one image is the end of all, each is tried on its own.

        Raises:
            ArchiveError: the archive is out of reach.
            OutputError, OSError: something cannot be written.
            ModelError, NeuronsError: model or neurons fit no image.
        """
        there = there or self.there(archive)
        try:
            return self._do(batch, fetch, archive, keep, there(batch.series))
        except NOT_ITS_FAULT:
            raise
        except Exception as error:  # of any kind, on images that may be anything; its words may be theirs
            if len(batch.instances) == 1:
                ours = f"unexpected {type(error).__name__}, a fault of ttr: report it"
                why = str(error) if isinstance(error, TTRError) else ours
                return Outcome(failed={batch.instances[0].uid: why})
        outcome = Outcome()
        for each in batch.instances:
            outcome.add(self.do(Batch(batch.series, (each,)), fetch, archive, keep, there))
        return outcome

    def _do(
        self, batch: Batch, fetch: Fetch, archive: Archive | None, keep: Path | None, there: set[str]
    ) -> Outcome:
        outcome = Outcome()
        left = [each for each in batch.instances if archive and not self.expected(each) <= there]
        over = 0 if archive is None else sum(each.frames for each in batch.instances if each not in left)
        if not left and (keep is None or _is_whole(keep / self._name(batch))):
            done = over or sum(each.frames for each in batch.instances)
            return Outcome(done=done, there=len(titles()) * over)
        with FETCHED.folder() as private:
            paths = _fetched(batch.series, left or batch.instances, fetch, private, outcome)
            if not paths:
                outcome.done, outcome.there = over, len(titles()) * over
                return outcome
            others = [each for each in batch.instances if left and each not in left]
            paths += _fetched(batch.series, others, fetch, private, outcome)
            with self._results(sorted(paths), batch, private, keep, outcome) as (folder, made):
                if archive is not None:
                    _store(archive, batch.series.study, folder, made, there, outcome)
                outcome.done += sum(_instance(name) not in outcome.failed for name in made)
        return outcome

    def _name(self, batch: Batch) -> str:
        """Return the name of the folder of a batch's results: the series, and which of it by which model."""
        return f"{batch.series.series}-{sha256([self.uid('batch', batch.name)], digits=12)}"

    @contextmanager
    def _results(
        self, paths: list[Path], batch: Batch, private: Path, keep: Path | None, outcome: Outcome
    ) -> Iterator[tuple[Path, Mapping[str, Mapping[str, str]]]]:
        """Yield the folder of the results, and {image: {file: UID}}; what cannot be read is recorded."""
        how = DicomOut(self.keep_patient, self.uid)
        images, sources = how.sourced(given_images(paths), self.backbone)
        reading = ReadAhead(images, replace(self.run, on_error="skip", progress=False))
        target = (private / "results" if keep is None else keep) / self._name(batch)
        made: dict[str, dict[str, str]] = {}
        try:
            compared = compare_files(self.backbone, self.neurons, reading, self.settings, self.references)
            with result_folder(target) as folder:
                made = write_dicom(folder, self.backbone, compared.images, sources, how)
        except ImageError:
            if len(reading.skipped) < len(images):
                raise
        outcome.failed.update({_instance(name): why for name, why in reading.skipped.items()})
        yield target, made


def _fetched(
    series: Series, instances: Sequence[Instance], fetch: Fetch, private: Path, outcome: Outcome
) -> list[Path]:
    """Return the files of the instances that are what they should be; none of our own is."""
    paths = []
    for each in instances:
        path = private / f"{each.uid}.dcm"
        try:
            with called(each.uid, path):
                fetch(series, each.uid, path)
                found = identity_of(path)
                if (found.study, found.series, found.instance) != (series.study, series.series, each.uid):
                    raise ImageError(f"{path} is another instance than was asked for; see the archive's log")
                frames = len(frame_paths(path))
                if frames > MOST_FRAMES:
                    raise ImageError(f"{path} holds {frames:,} frames; needed {MOST_FRAMES} at most")
                if not found.ours:
                    origin_of(path)
        except ImageError as error:
            path.unlink(missing_ok=True)
            outcome.failed[each.uid] = str(error)
        else:
            if found.ours:
                path.unlink()
                outcome.ours.append(each.uid)
            else:
                paths.append(path)
    return paths


def _store(
    archive: Archive,
    study: str,
    folder: Path,
    made: Mapping[str, Mapping[str, str]],
    there: set[str],
    outcome: Outcome,
) -> None:
    for name, files in made.items():
        for file, uid in files.items():
            if uid in there:
                outcome.there += 1
                continue
            try:
                archive.store(study, uid, read_bytes(folder / file, MOST_INSTANCE))
                there.add(uid)
                outcome.stored += 1
            except NotStoredError as error:
                outcome.failed[_instance(name)] = str(error)


def _is_whole(folder: Path) -> bool:
    """Return whether a folder holds a batch's results, and all that its manifest lists."""
    if not is_result(folder, DICOM):
        return False
    listed = read_json(folder / MANIFEST, MOST_MANIFEST)["files"]
    return all((folder / name).is_file() for name in listed)


def _instance(name: str) -> str:
    """Return the UID of the instance that an image is, or is a frame of."""
    return addressed(Path(name))[0].name.removesuffix(".dcm")
