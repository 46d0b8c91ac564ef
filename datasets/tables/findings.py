"""Several findings an image, and the two rules that make one label of them.

With a finding that was chosen, an image shows it or does not: two classes. Without one, the images that show
exactly one are kept, and what was left out is said.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ttr.datasets.base import Item, check_twins
from ttr.errors import DataError
from ttr.wording import counted


@dataclass(frozen=True)
class Reported:
    """An image whose label is not decided yet.

    Attributes:
        item: the image.
        present: what it shows; a set's own word for a normal image counts as one.
        unsure: what it may show.
    """

    item: Item
    present: tuple[str, ...]
    unsure: tuple[str, ...] = ()


def one_label(
    reported: Iterable[Reported], finding: str | None, known: Iterable[str], where: str
) -> tuple[list[Item], tuple[str, ...]]:
    """Return the images with a label each, and what to know of it: which rule, and how many it left out.

    Args:
        reported: the images.
        finding: of ``known``, upper or lower case; None: images with exactly one finding.
        known: all findings of the set.
        where: the set, for messages.

    Raises:
        DataError: no such finding, or two that differ in case alone; or nothing is left to tell apart.
    """
    reported = list(reported)
    check_twins(where, [each for row in reported for each in row.present])
    if finding is not None:
        return _against_none(reported, _chosen(finding, tuple(known), where), where)
    certain = [row for row in reported if len(row.present) == 1 and not row.unsure]
    kept = [replace(row.item, label=row.present[0]) for row in certain]
    if reported and not kept:
        raise DataError(
            f"{where}: none of its {counted(len(reported), 'image')} shows exactly one finding for certain; "
            "choose one: --finding NAME"
        )
    left_out = len(reported) - len(kept)
    said = (
        f"{counted(left_out, 'image')} with several findings, none or uncertain ones left out; choose one: "
    )
    return kept, (said + "--finding NAME",) if left_out else ()


def _against_none(
    reported: Sequence[Reported], finding: str, where: str
) -> tuple[list[Item], tuple[str, ...]]:
    kept, unsure = [], 0
    for row in reported:
        if finding in row.unsure:
            unsure += 1
            continue
        kept.append(replace(row.item, label=finding if finding in row.present else f"no {finding}"))
    showing = sum(item.label == finding for item in kept)
    if reported and showing in (0, len(kept)):
        how = f"all of its {counted(len(kept), 'image')} show" if showing else "no image of it shows"
        but = f" ({unsure:,} left open)" if unsure else ""
        raise DataError(
            f"{where}: {how} {finding} for certain{but}, so there is nothing to tell apart; choose another "
            "--finding"
        )
    notes = (f"{finding} against images that do not name it, whatever else they show",)
    return kept, notes + ((f"{counted(unsure, 'image')} left out where it is uncertain",) if unsure else ())


def _chosen(finding: str, known: tuple[str, ...], where: str) -> str:
    plain = {each.casefold(): each for each in known}
    if not plain:
        raise DataError(f"{where} names no findings of which {finding!r} could be one; leave --finding out")
    if finding.casefold() not in plain:
        close = difflib.get_close_matches(finding.casefold(), plain, n=1)
        hint = f" (did you mean {plain[close[0]]}?)" if close else ""
        raise DataError(
            f"{where} has no finding {finding!r}{hint}; needed one of: {', '.join(sorted(known))}"
        )
    return plain[finding.casefold()]
