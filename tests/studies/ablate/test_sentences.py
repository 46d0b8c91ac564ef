"""The sentences under the figures say what the tables' numbers say."""

from __future__ import annotations

import pandas as pd
import pytest

from ttr.studies.ablate.sentences import sentences


def test_the_sentences_say_what_the_numbers_say(results):
    found = sentences(results)
    assert found[0].startswith(
        "Zeroing the trained registers changes probe from 90.0 % to 30.0 % (−60.0 points"
    )
    assert "[−63.0, −57.0]" in found[0]
    assert "changes metrics by at most 1.0 points (registers:mean, probe: +1.0, [−2.0, +4.0])" in found[1]
    assert found[1].endswith("none of the 2 differences is distinguishable from zero.")
    assert found[2].startswith("Replacing CLS by its mean over images changes probe from 90.0 % to 40.0 %")
    assert found[2].endswith("mIoU not distinguishable.")
    assert found[3] == (
        "The control, zeroing 4 random patches of each image, leaves probe not distinguishable from the full "
        "model."
    )
    assert len(found) == 4
    assert sentences(results[results.condition == "full"]) == []


@pytest.mark.parametrize(
    ("p", "ends"), [(0.001, "over the sum."), (0.2, "over the sum, not distinguishable from zero.")]
)
def test_the_excess_is_called_one_only_if_it_is(results, p, ends):
    terms = {"register-1:zero": -0.1, "sum": -0.1, "collective": -0.6, "excess": -0.5}
    rows = [
        {"registers": "registers", "task": "probe", "metric": "top1", "term": t, "value": v, "p": p}
        for t, v in terms.items()
    ]
    table = pd.DataFrame(rows).assign(ci_low=lambda t: t.value - 0.01, ci_high=lambda t: t.value + 0.01)
    (text,) = [s for s in sentences(results, table) if "one at a time" in s]
    assert "by −10.0 points in sum, all at once by −60.0: −50.0 [−51.0, −49.0]" in text
    assert text.endswith(ends)
