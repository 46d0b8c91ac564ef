"""The marker test on planted markers: what is drawn, where it lies, and when a model is said to follow it."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image

import ttr
from tests.evaluate.test_zero_shot import whole_clip
from tests.tools.tiny_models import scramble, tiny_vit
from tests.tools.views import pictures, pixels, views
from ttr.apps.html import marker as marker_html
from ttr.apps.html import panels
from ttr.apps.image import marker as marker_image
from ttr.apps.image.answers import Reader, read_classes
from ttr.apps.image.case import Case
from ttr.apps.image.framing import Frame
from ttr.apps.image.inspection import inspect
from ttr.apps.image.intake import Picture
from ttr.apps.image.marker import PUBLISHED, Reaction, Reply, Seen, marker_test, reaction, share_on, touched
from ttr.apps.image.marker_drawing import CORNERS, KINDS, Marker, draw_marker
from ttr.apps.image.marker_places import Places, all_places, followed
from ttr.backbones.phantoms.recipes import Preprocess
from ttr.datasets.registry import open_image, sample_paths
from ttr.errors import ImageError, ModelError, OptionError
from ttr.evaluate.heads import LinearHead
from ttr.evaluate.zero_shot import zero_shot
from ttr.forward.record import record

WHOLE, MIDDLE = Frame(0, 0, 1, 1), Frame(0.25, 0.1, 0.75, 0.9)


@pytest.fixture(scope="module")
def planted(phantom):
    return ttr.RegisterNeurons.from_pairs(phantom.planted)


@pytest.fixture(scope="module")
def chest():
    return open_image(sample_paths()["chest"])


@pytest.fixture(scope="module")
def tested(phantom, planted, chest):
    return marker_test(phantom, planted, chest, Marker("PORTABLE", "bottom right"))


# What is drawn


@pytest.mark.parametrize(("kind", "corner"), list(product(KINDS, CORNERS)))
def test_a_marker_is_white_with_a_dark_edge_in_its_corner_of_the_seen_part(kind, corner):
    grey = Image.new("RGB", (400, 300), (128, 128, 128))
    marked = draw_marker(grey, Marker(kind, corner, 0.1), MIDDLE)
    pixels = np.asarray(marked)
    rows, columns = np.nonzero((pixels != 128).any(axis=2))
    left, top, right, bottom = MIDDLE.box((400, 300))
    assert left <= columns.min() <= columns.max() < right
    assert top <= rows.min() <= rows.max() < bottom
    middle = (left + right) / 2, (top + bottom) / 2
    if kind in ("L", "R"):
        assert (columns < middle[0]).all() if "left" in corner else (columns > middle[0]).all()
        assert (rows < middle[1]).all() if "top" in corner else (rows > middle[1]).all()
        assert rows.max() - rows.min() == pytest.approx(0.1 * 200 * 1.2, rel=0.25)
    assert pixels.max() > 240
    assert pixels.min() < 30
    assert np.array_equal(np.asarray(draw_marker(grey, Marker(kind, corner, 0.1), MIDDLE)), pixels)
    assert (np.asarray(grey) == 128).all()


def test_a_word_that_would_not_fit_is_drawn_smaller():
    black = Image.new("RGB", (200, 200))
    for size in (0.2, 0.4):
        columns = np.nonzero(np.asarray(draw_marker(black, Marker("PORTABLE", "top left", size), WHOLE)))[1]
        assert 0.8 * 200 < columns.max() - columns.min() <= 0.94 * 200


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        (("X", "top left", 0.1), "needed one of L, R, PORTABLE, ruler"),
        (("L", "middle", 0.1), "bottom right"),
        (("L", "top left", 0.5), "needed a share of the picture, 0.04..0.4"),
        (("L", "top left", float("nan")), "needed a share of the picture"),
    ],
)
def test_what_cannot_be_drawn_is_refused(marker, message):
    with pytest.raises(OptionError, match=message):
        Marker(*marker)


# Where it lies


def test_the_markers_patches_are_those_it_was_planted_on(phantom):
    clean = torch.zeros(3, 224, 224)
    marked = clean.clone()
    expected = np.zeros((14, 14), dtype=bool)
    for row, column in ((0, 0), (3, 7), (13, 12)):
        expected[row, column] = True
        marked[:, 16 * row + 4 : 16 * row + 8, 16 * column + 4 : 16 * column + 8] = 0.5
    marked[:, 100, 100] = 1.0  # one pixel is no marker
    marked[:, 160:176, 160:176] = 0.1  # nor is what nobody sees
    assert np.array_equal(touched(phantom, clean, marked), expected)
    with pytest.raises(ImageError, match="leaves no trace"):
        touched(phantom, clean, clean)


def test_the_box_frames_the_patches_and_a_cropped_picture_shows_the_marker(phantom, planted):
    wide = Image.new("RGB", (600, 300), (90, 90, 90))
    found = marker_test(phantom, planted, wide, Marker("L", "top right", 0.12))
    assert found.patches[:3, -3:].any()
    left, top, right, bottom = (14 * end for end in found.box)
    assert found.patches[round(top) : round(bottom), round(left) : round(right)].sum() == found.patches.sum()
    assert (left, top, right, bottom) == pytest.approx((round(left), round(top), round(right), round(bottom)))


# What is measured


def test_the_share_is_that_of_the_models_own_attention(phantom, planted, tested, chest):
    for picture, which in ((chest, "clean"), (tested.image, "marked")):
        batch = phantom.preprocess(picture)[None]
        for run, wrap in (("before", None), ("after", ttr.TestTimeRegisters(phantom, planted))):
            if wrap is not None:
                wrap.install()
            passed = record(phantom, batch, attention=True)
            if wrap is not None:
                wrap.remove()
            row = passed.cls_attention[-1, 0].double().mean(dim=0)[-196:].reshape(14, 14).numpy()
            expected = row[tested.patches].sum() / row.sum()
            assert getattr(getattr(tested, run), which) == pytest.approx(expected, rel=1e-4)
    assert tested.before.area == tested.patches.sum() / 196
    assert tested.before.cosine < 1


def test_a_dark_mark_on_a_bright_picture_is_followed_until_the_registers_move(phantom, planted, monkeypatch):
    """The phantom's artifacts sit on dark corners: here the answer is known."""

    def black_corner(image, marker, frame):
        marked = image.copy()
        marked.paste((0, 0, 0), (0, 0, 32, 32))
        return marked

    monkeypatch.setattr(marker_image, "draw_marker", black_corner)
    found = marker_test(phantom, planted, Image.new("RGB", (224, 224), (250, 250, 250)), Marker())
    assert found.patches.sum() == 4
    assert found.patches[:2, :2].all()
    assert found.before.map_follows
    assert found.before.peak_marked
    assert found.before.marked > 10 * found.before.area
    assert not found.after.follows
    assert found.verdict == "The model follows the marker before the move, and does not after it."


def test_nothing_moved_reacts_as_the_bare_model(phantom, chest):
    nothing = ttr.RegisterNeurons.from_pairs([])
    found = marker_test(phantom, nothing, chest, Marker("ruler", "top right", 0.1), num_registers=0)
    assert found.before == found.after
    assert marker_test(phantom, nothing, chest, Marker("R"), num_registers=1).before != found.before


def test_a_share_counts_the_patches_alone():
    attention = np.full((4, 5), 0.01, dtype=np.float32)
    patches = np.zeros((4, 5), dtype=bool)
    patches[0, :2] = True
    assert share_on(attention, patches) == pytest.approx(0.1)
    attention[0, 0] = 0.03
    assert share_on(attention, patches) == pytest.approx(4 / 22)


@pytest.mark.parametrize(
    ("clean", "marked", "follows"),
    [
        (0.1, 0.2, True),  # twice its area, and twice what it was
        (0.1, 0.19, False),  # less than twice its area
        (0.2, 0.29, False),  # dense, but it was already
        (0.2, 0.31, True),
        (0.0, 0.0, False),
    ],
)
def test_the_rule_for_a_map(clean, marked, follows):
    found = Reaction(clean, marked, 0.1, False, False, 1.0)
    assert found.map_follows is found.follows is follows
    assert found.occupied is (clean >= 0.2)


def test_the_rule_for_an_answer():
    for changed in (True, False):
        reply = Reply("a", "b" if changed else "a", 0.6, 0.4)
        found = Reaction(0.1, 0.1, 0.1, False, False, 1.0, reply)
        assert found.follows is reply.changed is changed


def test_a_head_answers_with_its_own_probabilities(phantom, planted, chest, tested):
    """A head that lies between the two pictures' features changes its answer by construction."""
    clean, marked = tested.clean.before.feature, tested.marked.before.feature
    direction = torch.from_numpy(marked - clean)
    middle = float(direction @ torch.from_numpy(marked + clean) / 2)
    head = LinearHead(
        torch.stack([-direction, direction]), torch.tensor([middle, -middle]), ("plain", "read")
    )
    reader = Reader(head, "planted")
    found = marker_test(phantom, planted, chest, tested.marker, asked=reader).before.reply
    assert (found.clean, found.marked, found.changed) == ("plain", "read", True)
    assert found.was == pytest.approx(reader.probabilities(clean)[0])
    assert found.now == pytest.approx(reader.probabilities(marked)[0])
    assert found.was > 0.5 > found.now


@pytest.mark.parametrize("options", [{}, {"init_logit_bias": -2.0}])
def test_typed_answers_are_clips_own(options, images):
    backbone = ttr.adapt(whole_clip(**options), preprocess=Preprocess(32))
    texts = ["bone", "metal implant", "L"]
    reader = read_classes(backbone, texts)
    expected = zero_shot(backbone, images, texts, templates=["{}"])
    for image, row in zip(images, expected, strict=True):
        feature = backbone.embed(image[None])[0].numpy()
        np.testing.assert_allclose(reader.probabilities(feature), row, rtol=1e-4, atol=1e-6)
    with pytest.raises(OptionError, match="one text is no choice"):
        read_classes(backbone, texts[:1])


# Every place


def test_all_places_are_single_tests(phantom, planted, chest, tested):
    kinds, corners = ("PORTABLE", "L"), ("bottom right", "top left")
    found = all_places(phantom, planted, chest, kinds=kinds, corners=corners, batch_size=3)
    assert found.markers == tuple(Marker(kind, corner) for kind in kinds for corner in corners)
    for ours, single in ((found.before[0], tested.before), (found.after[0], tested.after)):
        for name in ("clean", "marked", "area", "cosine"):
            assert getattr(ours, name) == pytest.approx(getattr(single, name), rel=1e-4), name
        assert (ours.peak_clean, ours.peak_marked) == (single.peak_clean, single.peak_marked)
    assert found.answers is None
    assert found.maps.before.places == 4


def test_the_interval_is_wilsons():
    count, n, z = 3, 16, 1.959964
    found = followed([True] * count + [False] * (n - count))
    share, half = count / n, z * np.sqrt(count / n * (1 - count / n) / n + z**2 / (4 * n**2))
    centre, scale = share + z**2 / (2 * n), 1 + z**2 / n
    assert (found.count, found.places) == (count, n)
    assert (found.low, found.high) == pytest.approx(((centre - half) / scale, (centre + half) / scale))
    assert followed([False] * 16).low == 0


def test_before_and_after_are_told_apart_on_the_same_places():
    def run(flags):
        reply = {True: Reply("a", "b", 0.6, 0.4), False: Reply("a", "a", 0.6, 0.6)}
        return tuple(Reaction(0.1, 0.5 if f else 0.1, 0.1, False, False, 1.0, reply[f]) for f in flags)

    found = Places((Marker(),) * 16, run([True] * 8 + [False] * 8), run([False] * 16))
    assert (found.maps.before.count, found.maps.after.count) == (8, 0)
    assert found.maps.p == pytest.approx(2 * 0.5**8)
    assert found.maps.differs
    assert found.answers == found.maps
    assert not Places((Marker(),) * 16, run([True] + [False] * 15), run([False] * 16)).maps.differs


# What is refused, and what is shown


def test_models_without_cls_or_wrapped_already_are_refused(chest, phantom, planted):
    pooled = ttr.adapt(scramble(tiny_vit(class_token=False, global_pool="avg")), preprocess=Preprocess(32))
    nothing = ttr.RegisterNeurons.from_pairs([])
    for ask in (lambda b, n: marker_test(b, n, chest, Marker()), lambda b, n: all_places(b, n, chest)):
        with pytest.raises(ModelError, match="no CLS token"):
            ask(pooled, nothing)
        with ttr.TestTimeRegisters(phantom, planted), pytest.raises(ModelError):
            ask(phantom, planted)


def test_a_reaction_needs_no_attention_of_registers(phantom, planted, tested):
    """More registers take more attention, and the share among the patches does not fall for it."""
    seen = Seen(tested.marked.after.attention_map(5), tested.marked.after.feature)
    halved = Seen(seen.attention / 2, seen.feature)
    clean = Seen(tested.clean.after.attention_map(5), tested.clean.after.feature)
    assert reaction(clean, halved, tested.patches, None).marked == pytest.approx(
        reaction(clean, seen, tested.patches, None).marked
    )


def test_the_published_number_is_in_no_table(phantom, planted, tested, chest):
    case = Case(
        Picture(chest, "PNG", "0" * 64), inspect(phantom, planted, chest), "phantom", "planted", (), None
    )
    shown = marker_html.numbers(case, tested, "")
    table = shown[shown.index("<table") : shown.index("</table>")]
    assert "50.5" in PUBLISHED
    assert "50.5" in shown
    assert "50.5" not in table
    assert f"{100 * tested.before.marked:.1f} %" in table
    maps = marker_html.maps(case, tested)
    assert maps.count('class="ttr-mark"') == 4
    with_marker, without = views(maps)
    assert with_marker["scale"]["shared"] == without["scale"]["shared"]
    (marked,) = pictures(maps)
    assert marked["id"] == with_marker["picture"] != without["picture"]
    assert (pixels(marked["uri"]) != pixels(pictures(panels.picture(case))[0]["uri"])).any()
