"""Images of a localisation worth a look: the best, the worst and the most changed, looked at again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ttr.drawing.maps import LINE, overlay, png_uri, rim
from ttr.forward.preprocessing import pixels_of
from ttr.run import Run
from ttr.studies.localize.localisation import Localisation
from ttr.studies.localize.looking import Looker, Seen
from ttr.studies.localize.sentences import TOLD_OF

#: Images of a kind.
EACH = 3


def cards(looker: Looker, found: Localisation, run: Run) -> dict[str, list[dict[str, Any]]]:
    """Return {what they are: images with their panels}, by the first method of the first and the last arm.

    The last arm is ``ttr`` where it took part, and the first the bare model. An image is where the last
    arm's map has the most and the least energy in the outline, and where the two differ most.
    """
    method = looker.methods[0]
    first, last = shown_arms(found)[0], shown_arms(found)[-1]
    before, after = (found.values[arm, method][TOLD_OF] for arm in (first, last))
    order = np.argsort(after, kind="stable")
    kinds = {f"best with {last}": order[::-1][:EACH], f"worst with {last}": order[:EACH]}
    if first != last:
        changed = np.argsort(-np.abs(after - before), kind="stable")
        kinds[f"most changed from {first} to {last}"] = changed[:EACH]
    wanted = sorted({int(place) for places in kinds.values() for place in places})
    shown = [next(arm for arm in looker.arms if arm.kind == name) for name in dict.fromkeys((first, last))]
    again = replace(looker, arms=shown, methods=[method])
    drawn = dict(zip(wanted, _drawn(again, [found.items[place] for place in wanted], run), strict=True))
    scores = {first: before, last: after}
    return {
        what: [_card(found, int(place), drawn[int(place)], scores) for place in places]
        for what, places in kinds.items()
    }


def shown_arms(found: Localisation) -> tuple[str, ...]:
    """Return the first and the last arm: the bare model and ``ttr`` where they took part; one of one."""
    arms = list(dict.fromkeys(arm for arm, _ in found.kinds))
    first = "plain" if "plain" in arms else arms[0]
    last = "ttr" if "ttr" in arms else arms[-1]
    return tuple(dict.fromkeys((first, last)))


def _card(
    found: Localisation, place: int, panels: dict[str, str], scores: dict[str, np.ndarray]
) -> dict[str, Any]:
    name = found.items[place].name
    titles = {arm: f"{arm}: {100 * values[place]:.1f} % in the outline" for arm, values in scores.items()}
    return {
        "name": name,
        "share": found.shares[place],
        "label": found.items[place].label,
        "panels": [
            {"title": titles.get(what, what), "alt": f"{name}, {titles.get(what, what)}", "uri": uri}
            for what, uri in panels.items()
        ],
    }


def _drawn(looker: Looker, items: Sequence[Any], run: Run) -> list[dict[str, str]]:
    """Return the panels of some images, {what it shows: data URI}: the input, then a map an arm."""
    found: list[dict[str, str]] = []
    for batch in looker.batches(looker.reading(items, run), run.batch_size):
        pictures = pixels_of(looker.backbone, torch.stack([each.pixels for each in batch]))
        panels = [
            {"input": png_uri(outlined(pixels, each))} for pixels, each in zip(pictures, batch, strict=True)
        ]
        for arm, _, maps in looker.maps(batch):
            for own, pixels, each, relevance in zip(panels, pictures, batch, maps, strict=True):
                positive = np.maximum(relevance, 0)
                own[arm.kind] = png_uri(outlined(overlay(pixels, positive, float(positive.max())), each))
        found += panels
    return found


def outlined(pixels: np.ndarray, seen: Seen) -> np.ndarray:
    """Return a picture with the rim of what is outlined, uint8 [H, W, 3]."""
    return np.where(rim(seen.outline == 1)[..., None], np.array(LINE, dtype=np.uint8), pixels)
