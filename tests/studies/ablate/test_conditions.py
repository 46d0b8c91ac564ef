"""Names of conditions: what they mean for a layout, the suite, and what is refused."""

from __future__ import annotations

import pytest

import ttr
from tests.tools.tiny_models import scramble, tiny_transformers, tiny_vit
from ttr.errors import ModelError, OptionError
from ttr.studies.ablate.conditions import BARE, FULL, parse, parse_all, suite

DEPTH = 3


@pytest.fixture(scope="module")
def registered():
    return ttr.adapt(scramble(tiny_vit(reg_tokens=4, no_embed_class=True)))


@pytest.mark.parametrize(
    ("name", "where", "blocks"),
    [
        ("cls:mean", range(0, 1), (0, 1, 2)),
        ("registers:zero", range(1, 5), (0, 1, 2)),
        ("register-2:mean", range(2, 3), (0, 1, 2)),
        ("registers-1..3:zero", range(1, 4), (0, 1, 2)),
        ("registers:noise@1", range(1, 5), (1,)),
        ("registers:shuffle@0..1", range(1, 5), (0, 1)),
        ("registers:zero@last", range(1, 5), (2,)),
        ("registers:zero@-2..last", range(1, 5), (1, 2)),
    ],
)
def test_a_name_says_which_tokens_and_where(registered, name, where, blocks):
    condition = parse(name, registered, registered.layout)
    assert (condition.where, condition.blocks, condition.random) == (where, blocks, 0)
    assert condition.substitute == name.partition(":")[2].partition("@")[0]
    assert condition.calibrated == (condition.substitute in {"mean", "noise", "resample"})


def test_random_patches_are_drawn_from_all_patches(registered):
    condition = parse("patches-4:zero", registered, registered.layout)
    assert condition.random == 4
    assert condition.where == range(5, 5 + registered.layout.patches)
    assert condition.tokens == "patches-4"


def test_test_time_registers_stand_behind_the_trained_ones(registered):
    layout = registered.layout.with_test_time(3)
    assert parse("test-time:mean", registered, layout).where == range(5, 8)
    assert parse("test-time-2:zero", registered, layout).where == range(6, 7)
    assert parse("test-time-1..2:zero", registered, layout).where == range(5, 7)
    assert parse("patches-1:zero", registered, layout).where.start == 8
    assert parse("bare", registered, layout) == BARE


def test_the_suite_has_what_the_published_studies_use(registered):
    names = suite(registered, registered.layout)
    for substitute in ("zero", "mean", "noise", "shuffle", "resample"):
        assert f"registers:{substitute}" in names
    assert {f"register-{i}:zero" for i in (1, 2, 3, 4)} <= set(names)
    assert {"registers-1..2:zero", "registers-1..3:zero", "registers:zero@2"} <= set(names)
    assert {"full", "cls:zero", "cls:mean", "patches-4:zero"} <= set(names)
    assert not any(name.startswith("test-time") or name == "bare" for name in names)
    wrapped = suite(registered, registered.layout.with_test_time(1))
    assert {"bare", "test-time:shuffle", "test-time:zero@2"} <= set(wrapped)
    plain = ttr.adapt(scramble(tiny_vit()))
    assert suite(plain, plain.layout) == ["full", "cls:zero", "cls:mean", "patches-4:zero"]
    without_cls = ttr.adapt(scramble(tiny_transformers("SiglipVisionModel")))
    assert suite(without_cls, without_cls.layout) == ["full", "patches-4:zero"]


def test_every_name_of_the_suite_can_be_parsed_and_full_comes_first(registered):
    layout = registered.layout.with_test_time(2)
    conditions = parse_all(["cls:zero", "all"], registered, layout)
    assert conditions[0] == FULL
    assert len({condition.name for condition in conditions}) == len(conditions)
    assert {condition.name for condition in conditions} == set(suite(registered, layout))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("registers", "needed full or TOKENS:SUBSTITUTE"),
        ("registers:median", "is not known"),
        ("nothing:zero", "is not known"),
        ("bare", "is not known"),
        ("test-time:zero", "no test-time registers; wrap it with --num-registers"),
        ("register-5:zero", "has 4 trained registers, counted from 1"),
        ("register-0:zero", "counted from 1"),
        ("registers-3..2:zero", "counted from 1"),
        ("patches-17:zero", "has 16 patches"),
        ("patches-0:zero", "has 16 patches"),
        ("registers:zero@2..1", "run backwards"),
    ],
)
def test_wrong_names_are_refused_by_what_was_needed(registered, name, message):
    with pytest.raises(OptionError, match=message):
        parse(name, registered, registered.layout)


def test_a_block_that_is_not_there_is_refused(registered):
    with pytest.raises(ModelError, match="registers:zero@3: block=3"):
        parse("registers:zero@3", registered, registered.layout)


def test_tokens_that_a_model_lacks_are_refused():
    plain = ttr.adapt(scramble(tiny_vit()))
    with pytest.raises(OptionError, match="has no trained registers"):
        parse("registers:zero", plain, plain.layout)
    with pytest.raises(OptionError, match="name each once"):
        parse_all(["cls:zero", "cls:zero"], plain, plain.layout)
