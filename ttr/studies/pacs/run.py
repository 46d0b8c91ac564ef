"""All series that a query finds, one batch after the other; what is done already is passed over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ttr.errors import ArchiveError
from ttr.hospital.web.archive import PAGE, Archive, Series
from ttr.progress import progress_bar
from ttr.studies.pacs.batch import NO_PICTURES, Batch, batches_of
from ttr.studies.pacs.work import Outcome, Work
from ttr.wording import counted

#: Instances that one query may find.
MOST = 200_000


@dataclass
class Found:
    """What a query finds: series with pictures, in batches, how many without, and how many without a UID."""

    series: list[Series]
    batches: list[Batch]
    without: int = 0
    nameless: int = 0

    @property
    def images(self) -> int:
        """How many images there are, as far as the archive says."""
        return sum(each.frames for batch in self.batches for each in batch.instances)


@dataclass
class Summary(Outcome):
    """What became of all, and in which series anything was done."""

    series: set[str] = field(default_factory=set)

    def sentence(self, place: str, keep: Path | None) -> str:
        """Return it in words; ``place``: the archive's name, "" where nothing was to be stored."""
        parts = [f"{counted(self.done, 'image')} of {len(self.series):,} series with results"]
        if place:
            new = counted(self.stored, "instance") if self.stored else "nothing new"
            again = f", where {self.there:,} were already" if self.there else ""
            parts.append(f"{new} stored in {place}{again}")
        if keep is not None:
            parts.append(f"in DICOM: {keep}")
        if self.ours:
            parts.append(f"{counted(len(self.ours), 'instance')} left out that ttr made itself")
        return "; ".join(parts)


def find(
    archive: Archive, query: Mapping[str, str], limit: int | None = None, *, progress: bool = False
) -> Found:
    """Return what a query finds.

    Args:
        archive: the archive.
        query: attributes, as :func:`ttr.hospital.web.messages.parse_query` returns them.
        limit: at most so many series, the first by UID; None: all.
        progress: show a progress bar.

    Raises:
        ArchiveError: the archive is out of reach, or finds nothing with pictures.
    """
    found = archive.series(query)
    pictures = [each for each in found if each.modality not in NO_PICTURES][:limit]
    if not pictures:
        what = f"{len(found):,} series without pictures" if found else "nothing"
        raise ArchiveError(f"the archive finds {what}; check --study, --series or --query")
    batches: list[Batch] = []
    count = 0
    with progress_bar("listing", len(pictures), show=progress and len(pictures) > PAGE) as advance:
        for each in pictures:
            listed = archive.instances(each)
            count += len(listed)
            if count > MOST:
                raise ArchiveError(f"the archive finds more than {MOST:,} instances; needed fewer")
            batches += batches_of(each, listed)
            advance(1)
    return Found(pictures, batches, len(found) - len(pictures), archive.nameless)


def run_all(archive: Archive, work: Work, found: Found, *, store: bool, keep: Path | None) -> Summary:
    """Do all batches, and return what became of them.

    Args:
        archive: where images come from.
        work: how they are compared.
        found: the batches.
        store: whether results are stored in the archive.
        keep: folder that keeps them, too; None: none.

    Raises:
        TTRError: as ``Work.do`` does.
    """
    ours = {mine.series for each in found.series for mine in work.series_of(each)}
    summary, target = Summary(), archive if store else None
    there = work.there(target)
    with progress_bar("comparing", found.images, show=work.run.progress) as advance:
        for batch in found.batches:
            if batch.series.series in ours:
                summary.ours += [each.uid for each in batch.instances]
            else:
                outcome = work.do(batch, archive.fetch, target, keep, there)
                summary.add(outcome)
                summary.series |= {batch.series.series} if outcome.done else set()
            advance(sum(each.frames for each in batch.instances))
    return summary
