"""Passes that share what they have in common: every family, against the model's own forward with edits."""

from __future__ import annotations

import pytest
import torch

import ttr
from tests.tools.tiny_models import scramble, tiny_eva, tiny_vit
from ttr.errors import OptionError
from ttr.forward.calibration import calibrate
from ttr.hooks import capture, edit
from ttr.registers.arms import PLAIN, Arm
from ttr.registers.neurons import RegisterNeurons
from ttr.studies.ablate.conditions import BARE, parse, suite
from ttr.studies.ablate.subject import Subject

WRAPPED = Arm("ttr", RegisterNeurons.from_pairs([(0, 3), (1, 7)]), 2)


def replaced_by_zero(layout, where):
    def edited(x):
        x = x.clone()
        x[:, where.start : where.stop] = 0
        return x

    return edited


#: Each place and each arm in every family; with -m slow, each place under each arm.
USUAL = [(PLAIN, ""), (PLAIN, "@last"), (WRAPPED, "@1..2")]
OTHERS = [(PLAIN, "@1"), (PLAIN, "@1..2"), (WRAPPED, ""), (WRAPPED, "@1"), (WRAPPED, "@last")]


@pytest.mark.parametrize(
    ("arm", "blocks"), [*USUAL, *(pytest.param(*other, marks=pytest.mark.slow) for other in OTHERS)]
)
def test_starting_from_a_known_block_is_exact_in_every_family(model, images, arm, blocks):
    backbone = ttr.adapt(model)
    subject = Subject(backbone, arm)
    every = f"patches-{subject.layout.patches}"
    condition = parse(f"{'cls' if backbone.layout.cls else every}:zero{blocks}", backbone, subject.layout)
    batch = subject.batch(images, "images", [condition])
    found = batch.under(condition)
    change = replaced_by_zero(subject.layout, condition.where)
    with arm.applied(backbone), edit([(backbone.sites.blocks[b], change) for b in condition.blocks]):
        embedding, expected = backbone.embed_with_tokens(images)
    assert torch.equal(found.embedding, embedding)
    assert torch.equal(found.tokens.patches, expected.patches)
    assert torch.equal(found.tokens.test_time, expected.test_time)
    with arm.applied(backbone):
        full_embedding = backbone.embed(images)
    assert torch.equal(batch.full.embedding, full_embedding)


def test_the_model_is_as_before_after_success_and_failure(model, images):
    backbone = ttr.adapt(model)
    before, standing = backbone.embed(images), hooks_of(model)
    subject = Subject(backbone, PLAIN)
    condition = parse("patches-2:shuffle", backbone, subject.layout)
    subject.batch(images, "images", [condition]).under(condition)
    with pytest.raises(OptionError, match="batch of 1"):
        subject.batch(images[:1], "images", [condition]).under(condition)
    assert torch.equal(backbone.embed(images), before)
    assert hooks_of(model) == standing
    assert [name for name, module in model.named_modules() if "forward" in vars(module)] == []


def hooks_of(model):
    return [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]


@pytest.fixture(scope="module")
def registered():
    return ttr.adapt(scramble(tiny_vit(reg_tokens=4, no_embed_class=True, depth=4)))


def test_blocks_that_are_known_do_not_run_again(registered, images):
    subject = Subject(registered, PLAIN)
    condition = parse("registers:zero@2", registered, subject.layout)
    batch = subject.batch(images, "images", [condition])
    ran: list[int] = []
    attention = registered.sites.attention
    with capture(attention, lambda i, x, kwargs: ran.append(i)):
        batch.under(condition)
    assert ran == [3]
    seen: list[int] = []
    batch.under(condition, lambda block, x, kwargs: seen.append(block))
    assert seen == [3]


def test_the_last_block_changes_what_is_read_of_a_token_and_nothing_else(registered, images):
    subject = Subject(registered, PLAIN)
    condition = parse("registers:zero@last", registered, subject.layout)
    batch = subject.batch(images, "images", [condition])
    found = batch.under(condition)
    assert torch.equal(found.embedding, batch.full.embedding)
    assert torch.equal(found.tokens.patches, batch.full.tokens.patches)
    assert not torch.equal(found.tokens.registers, batch.full.tokens.registers)


def test_bare_is_the_model_without_its_wrap(registered, images):
    subject = Subject(registered, WRAPPED)
    batch = subject.batch(images, "images", [BARE])
    assert torch.equal(batch.under(BARE).embedding, registered.embed(images))
    assert batch.under(BARE).layout.test_time == 0
    assert batch.full.layout.test_time == 2
    assert not torch.equal(batch.full.embedding, batch.under(BARE).embedding)


def test_draws_follow_from_seed_and_key_alone(registered, images):
    calibration = calibrate(registered, images)
    for name in ("registers:noise", "registers:shuffle", "registers:resample", "patches-3:zero"):
        condition = parse(name, registered, registered.layout)

        def run(seed, key, condition=condition):
            subject = Subject(registered, PLAIN, calibration, seed)
            return subject.batch(images, key, [condition]).under(condition).embedding

        assert torch.equal(run(1, "a"), run(1, "a")), name
        assert not torch.equal(run(1, "a"), run(2, "a")), name
        assert not torch.equal(run(1, "a"), run(1, "b")), name


def test_the_same_random_patches_meet_every_substitute(registered, images):
    calibration = calibrate(registered, images)
    subject = Subject(registered, PLAIN, calibration)
    conditions = [parse(f"patches-4:{s}", registered, subject.layout) for s in ("zero", "mean")]
    batch = subject.batch(images, "images", conditions)
    zero, mean = (batch.under(condition) for condition in conditions)
    assert zero.replaced is not None
    assert torch.equal(zero.replaced, mean.replaced)
    assert zero.replaced.sum(dim=1).tolist() == [4] * len(images)
    shown = zero.last[:, 5:][zero.replaced]
    assert shown.abs().max() == 0


def test_a_whole_suite_runs_on_a_small_dinov3(images):
    from tests.tools.tiny_models import DINOV3

    backbone = ttr.adapt(scramble(tiny_eva(**DINOV3)))
    subject = Subject(backbone, WRAPPED, None)
    with WRAPPED.applied(backbone):
        calibration = calibrate(backbone, images)
    subject = Subject(backbone, WRAPPED, calibration)
    conditions = [parse(name, backbone, subject.layout) for name in suite(backbone, subject.layout)]
    assert len(conditions) == 25
    batch = subject.batch(images, "images", conditions)
    for condition in conditions:
        found = batch.under(condition)
        assert found.embedding.isfinite().all()
        same = torch.equal(found.embedding, batch.full.embedding)
        assert same == (condition.name == "full" or "@" in condition.name), condition.name
