"""The sentences under the figures say what the tables' numbers say."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.tools.drawn import NAN
from ttr.studies.ablate.sentences import answer, families, sentences
from ttr.studies.ablate.tables import family_of


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
        "The control, zeroing 4 random patches of each image, leaves probe not distinguishable in comparison "
        "with the full model."
    )
    assert len(found) == 4
    assert sentences(results[results.condition == "full"]) == []


def test_what_is_kept_is_said_to_be_and_what_is_open_says_how_many_images_would_tell(results):
    table = results.assign(margin=0.01, needed=NAN)
    mean = table.condition == "registers:mean"
    table.loc[mean & (table.metric == "top1"), "verdict"] = "equivalent"
    open_one = (table.condition == "cls:mean") & (table.metric == "miou")
    table.loc[open_one, "needed"] = 1234.0
    found = sentences(table)
    assert found[1].endswith(
        "1 of the 2 differences is equivalent within 1 point, none is distinguishable from zero."
    )
    assert found[2].endswith("; mIoU not distinguishable (needs 1,234 images).")
    control = (table.condition == "patches-4:zero") & (table.metric == "top1")
    table.loc[control, "verdict"] = "equivalent"
    assert sentences(table)[3].endswith(
        "leaves probe equivalent within 1 point in comparison with the full model."
    )


def test_the_families_are_stated_and_earlier_tables_have_none(results):
    assert families(results) == []
    names = [family_of(condition) for condition in results.condition]
    table = results.assign(family=names, tests=[0 if not name else 2 for name in names])
    assert families(table) == [
        "registers: Holm over 2 tests; 2 left out, since fewer than 6 images (groups) differ",
        "CLS: Holm over 2 tests",
        "patches: Holm over 2 tests",
    ]


@pytest.mark.parametrize(
    ("p", "ends"), [(0.001, "over the sum."), (0.2, "over the sum, not distinguishable.")]
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


def test_the_answer_keeps_equivalent_and_not_distinguishable_apart(results):
    table = results.assign(margin=0.01, needed=NAN)
    probe = (table.condition == "registers:mean") & (table.metric == "top1")
    other = table[probe].assign(condition="registers:noise", verdict="equivalent")
    table.loc[probe, "verdict"] = "not distinguishable"
    assert answer(table).endswith("by at most 1 point, not distinguishable")
    both = pd.concat([table, other], ignore_index=True)
    assert "1 of 2 not distinguishable; 1 of 2 equivalent" in answer(both)
    assert "points [−63.0, −57.0], lower)" in answer(both)


def test_what_could_not_be_measured_is_no_change(results):
    table = results.assign(delta=NAN)
    assert "nan" not in " ".join([answer(table), *sentences(table)])
