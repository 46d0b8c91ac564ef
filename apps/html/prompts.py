"""What the section on words shows, as HTML: one text's map before and after, and how well each text fits."""

from __future__ import annotations

import numpy as np

from ttr.apps.html.viewer import Scale, View, peak, view
from ttr.apps.image.case import Case
from ttr.apps.image.prompt_map import PromptMaps
from ttr.drawing.html import fill
from ttr.drawing.maps import DIFFERENCE_MAP, SIMILARITY_MAP
from ttr.wording import DISCLAIMER


def maps(case: Case, found: PromptMaps, index: int, *, difference: bool) -> str:
    """Return the maps of one text before and after as HTML, on a scale that both share.

    Cosines run from the lowest to the highest of both maps; differences lie evenly on both sides of 0.

    Raises:
        OptionError: a difference was asked of one text alone.
    """
    text = found.texts[index]
    values = found.difference(index) if difference else found.pair(index)
    low, high = float(min(v.min() for v in values)), float(max(v.max() for v in values))
    if difference:
        high = max(abs(low), abs(high))
        low = -high
        label = f"cosine with “{text}” minus the mean of the others: above 0 fits it better than those"
    else:
        label = f"cosine of a patch with “{text}”; the scale begins at the lowest, not at 0"
    return view(
        case,
        View(
            f"Where “{text}” fits, before and after",
            "difference" if difference else "cosine",
            list(values),
            [f"fit of “{text}”: {peak(each)}" for each in values],
            Scale(DIFFERENCE_MAP if difference else SIMILARITY_MAP, label, (low, high), around=difference),
        ),
    )


def numbers(case: Case, found: PromptMaps, caution: str = "") -> str:
    """Return the table of texts as HTML, with what must be said of it; ``caution``: of the neurons, or ""."""
    cautions = [line for line in (found.caution, caution, *case.picture.notes) if line]
    rows = [
        (text, *(f"{value:+.3f}" for value in (image_before, image_after, np.max(before), np.max(after))))
        for text, image_before, image_after, before, after in zip(
            found.texts, found.image_before, found.image_after, found.before, found.after, strict=True
        )
    ]
    return fill("app_prompts.html", case=case, cautions=cautions, rows=rows, disclaimer=DISCLAIMER)
