"""Simulated readers: each planted bias is found, where it was planted, and none is found that nobody has."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.tools.reader_studies import study_of
from ttr.errors import OptionError
from ttr.statistics.verdict import TOLD
from ttr.studies.reading.consent import preference_table
from ttr.studies.reading.joined import joined
from ttr.studies.reading.measures import differences_table
from ttr.studies.reading.order import (
    FIRST,
    LEFT,
    OTHERS,
    WRONG_MAPS,
    catch_table,
    drift,
    order_table,
    reader_table,
)
from ttr.studies.reading.settings import CONDITIONS
from ttr.studies.reading.simulated import BIASES, biased, simulate

READERS, CASES = 5, 40


def read_by(*readers, seed=0, cases=CASES, **settings):
    study = study_of(cases, seed, **{"readers": len(readers), "catch": 0.2, **settings})
    return joined(study, simulate(study, readers, seed))


def all_with(*biases, **options):
    return read_by(*[biased(biases)] * READERS, **options)


def differences(table):
    return differences_table(table, CONDITIONS, "yes", 0.05).set_index(["family", "first", "second"])[
        "verdict"
    ]


def order(table):
    return order_table(table).set_index("question")["verdict"]


def each(table):
    return reader_table(table, CONDITIONS).set_index(["question", "reader"])["verdict"]


def test_a_map_that_helps_is_told_from_one_that_harms():
    table = all_with("helped")
    found = differences(table)
    assert found["accuracy", "after", "before"] == found["auc", "after", "before"] == "higher"


def test_a_preference_is_told_from_a_side_and_from_what_was_seen_first():
    for bias, question in (("left", LEFT), ("first", FIRST)):
        table = all_with(bias)
        found = order(table)
        assert found[question] == "higher"
        assert found[LEFT if question == FIRST else FIRST] not in TOLD
        assert preference_table(table)["verdict"].iloc[0] not in TOLD
    table = all_with("prefers-after")
    assert preference_table(table)["verdict"].iloc[0] == "higher"
    assert not set(order(table)[[LEFT, FIRST]]) & set(TOLD)


def test_maps_that_take_time_are_found_and_are_no_difference_between_maps():
    found = differences(all_with("slower"))["log_seconds"]
    assert found["before", "none"] == found["after", "none"] == "higher"
    assert found["after", "before"] not in TOLD


def test_who_follows_wrong_maps_is_found_by_answers_and_by_trust():
    blind, seeing = all_with("follows"), all_with()
    assert differences(blind)["accuracy with a wrong map", "perturbed", "none"] == "lower"
    found = differences(seeing)
    assert found["accuracy with a wrong map", "perturbed", "none"] not in TOLD
    assert found["trust with a wrong map", "perturbed", "after"] == "lower"
    assert not set(each(blind)[WRONG_MAPS]) & {"higher"}
    assert set(each(seeing)[WRONG_MAPS]) == {"higher"}
    assert catch_table(blind)["share"].max() < catch_table(seeing)["share"].min()


def test_drift_over_a_session_is_found_whatever_the_conditions():
    found = order(all_with("drift"))
    assert found["drift of accuracy"] == found["drift of log_seconds"] == "lower"
    assert found["drift of trust"] not in TOLD


def test_the_error_of_a_drift_is_that_of_a_fit_with_each_read_taken_out():
    table = read_by(biased(()), cases=8)
    reads = table[table["kind"] == "read"]
    last = reads.groupby("session")["position"].transform("max")
    place = (reads["position"] - 1) / (last - 1)
    beside = [pd.get_dummies(reads[name].astype(str)) for name in ("condition", "session", "case")]
    x = np.column_stack([place, np.ones(len(reads)), *beside]).astype(float)
    y = reads["log_ms"].to_numpy()
    whole = np.linalg.pinv(x)
    apart = []
    for row in range(len(y)):
        others = np.arange(len(y)) != row
        apart.append(y[row] - x[row] @ (np.linalg.pinv(x[others]) @ y[others]))
    found = drift(table, "log_seconds")
    assert found.value == pytest.approx((whole @ y)[0])
    assert found.estimate.error == pytest.approx(np.sqrt((whole[0] ** 2 * np.square(apart)).sum()))


def test_one_reader_alone_is_named():
    fair, one = biased(()), replace(biased(("left", "guesses")), logit=0.0)
    table = read_by(fair, fair, replace(one, left=0.8), fair, fair)
    found = each(table)
    for question, verdict in ((LEFT, "higher"), (OTHERS, "lower")):
        assert list(found[question].index[found[question] == verdict]) == ["R3"]


def test_what_nobody_has_is_not_planted_by_name():
    with pytest.raises(OptionError, match="biases unheard; needed one or more of helped"):
        biased(("unheard",))
    with pytest.raises(OptionError, match="as many as the study has"):
        simulate(study_of(4, readers=2), [biased(())], 0)
    assert set(BIASES) >= {"left", "first", "slower", "follows", "drift", "guesses"}


def test_the_same_seed_simulates_the_same_answers():
    study = study_of(6, readers=2)
    readers = [biased(("left",))] * 2
    assert simulate(study, readers, 5) == simulate(study, readers, 5) != simulate(study, readers, 6)


@pytest.mark.slow
@pytest.mark.parametrize("readers", [2, 5])
def test_where_nothing_was_planted_one_test_in_twenty_fires_and_one_family_tells(readers):
    """Of each question apart; readers are alike but for chance, which is where a test could err."""
    fair, draws = replace(biased(()), spread=0.0), 80
    fired, told, asked = Counter(), Counter(), Counter()
    for seed in range(draws):
        table = read_by(*[fair] * readers, seed=seed, catch=0.1)
        rows = differences_table(table, CONDITIONS, "yes", 0.05)
        rows["question"] = rows["family"] + " " + rows["first"] + " " + rows["second"]
        single = reader_table(table, CONDITIONS)
        single["question"] = "each " + single["question"]
        preferred = preference_table(table)[:1].assign(question="preference")
        for part in (rows, order_table(table), single[single["reader"] == "R1"], preferred):
            for row in part.itertuples():
                if "trust with a wrong map" in row.question or WRONG_MAPS in row.question:
                    continue  # they see through these
                asked[row.question] += 1
                fired[row.question] += row.p < 0.05
                told[row.question] += row.verdict in TOLD
    for question, count in asked.items():
        assert stats.binomtest(fired[question], count, 0.05, alternative="greater").pvalue > 1e-4, question
        assert stats.binomtest(told[question], count, 0.05, alternative="greater").pvalue > 1e-3, question
    assert sum(fired.values()) > 0
