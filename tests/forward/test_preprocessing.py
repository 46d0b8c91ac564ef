import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ttr.datasets.registry import open_image, phantom_images, sample_paths
from ttr.errors import ImageError, ModelError, OptionError
from ttr.forward.preprocessing import STEPS, Preprocessing, ben_graham, fundus_crop, parse_steps, stretching


@pytest.fixture(scope="module")
def fundus():
    return open_image(sample_paths()["fundus"])


def test_without_steps_it_is_the_backbones_own(phantom, fundus):
    assert torch.equal(Preprocessing(phantom)(fundus), phantom.preprocess(fundus))


def test_a_stretched_image_is_torchvisions_plain_resize_with_nothing_cropped(phantom, fundus):
    from torchvision import transforms

    wide = fundus.resize((300, 120))
    stretched = stretching(phantom)
    mean, deviation = (each.tolist() for each in phantom.normalisation)
    plain = transforms.Compose(
        [
            transforms.Resize(phantom.image_size, transforms.InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize(mean, deviation),
        ]
    )
    assert torch.allclose(stretched.preprocess(wide), plain(wide), atol=1e-6)
    assert not torch.allclose(phantom.preprocess(wide), plain(wide), atol=0.1), "its own crops"
    assert Preprocessing(stretched).fingerprint != Preprocessing(phantom).fingerprint, "nor one in the cache"
    assert "Stretch(size=" in Preprocessing(stretched).to_json()["then"]
    assert torch.allclose(stretched.normalisation[0], phantom.normalisation[0], atol=1e-6)
    again = pickle.loads(pickle.dumps(stretched.preprocess_alone))
    assert torch.equal(again(wide), stretched.preprocess(wide))
    with pytest.raises(ModelError, match="needed one to stretch images"):
        stretching(replace(phantom, preprocess_image=None))


def test_the_crop_is_the_box_of_the_disc_as_a_square():
    pixels = np.zeros((60, 100, 3), dtype=np.uint8)
    y, x = np.mgrid[:60, :100]
    pixels[np.hypot(x - 40, y - 25) <= 20] = 200
    cut = fundus_crop(pixels)
    assert cut.shape == (41, 41, 3)
    assert np.array_equal(cut, pixels[5:46, 20:61])
    pixels[30:] = 0
    assert fundus_crop(pixels).shape == (41, 41, 3), "padded where the disc is cut off"
    assert fundus_crop(np.zeros((4, 6, 3), dtype=np.uint8)).shape == (6, 6, 3)


def test_a_strip_is_refused_before_it_is_resized_or_padded(phantom):
    """A picture from memory too: its shorter side becomes the model's, and its longer one grows with it."""
    strip = Image.new("1", (16, 100_000))
    with pytest.raises(ImageError, match="16 × 100,000 pixels, one side 6,250 times the other; needed 50"):
        Preprocessing(phantom)(strip)
    long = np.zeros((10_000, 300, 3), dtype=np.uint8)
    with pytest.raises(ImageError, match=r"padded to a square, has too many pixels .*\(10,000 × 10,000\)"):
        fundus_crop(long)


def test_ben_graham_takes_slow_shading_away_and_keeps_detail():
    y, x = np.mgrid[:300, :300]
    detail = 10 * np.sin(x / 2)
    for shade in (60, 60 + 0.3 * y):
        pixels = np.repeat((shade + detail)[..., None], 3, axis=2).clip(0, 255).astype(np.uint8)
        evened = ben_graham(pixels)[100:200, 100:200].astype(float)
        assert abs(evened.mean() - 128) < 3
        assert abs(evened.mean(axis=1).std()) < 2, "no gradient is left"
        assert evened.std() > 20
    assert (ben_graham(pixels)[0, 0] == 128).all()


@pytest.mark.parametrize("step", STEPS)
def test_each_step_changes_the_input_and_always_in_the_same_way(phantom, fundus, step):
    steps = Preprocessing(phantom, (step,))
    first = steps(fundus)
    assert first.shape == (3, 224, 224)
    assert not torch.equal(first, phantom.preprocess(fundus))
    assert torch.equal(steps(fundus), first)
    assert torch.equal(Preprocessing(phantom, (step,))(fundus), first)


def test_steps_run_in_order_and_threads_do_not_disturb_each_other(phantom, fundus):
    both = Preprocessing(phantom, ("fundus-crop", "clahe"))
    alone = Preprocessing(phantom, ("clahe",))
    cut = Image.fromarray(fundus_crop(np.asarray(fundus)))
    assert torch.equal(both(fundus), alone(cut))
    images = [p.image for p in phantom_images(8)]
    expected = [both(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        assert all(map(torch.equal, pool.map(both, images * 5), expected * 5))


def test_the_fingerprint_and_the_record_tell_steps_apart(phantom):
    made = [Preprocessing(phantom, steps) for steps in ((), ("clahe",), ("fundus-crop",), ("ben-graham",))]
    assert len({p.fingerprint for p in made}) == 4
    assert Preprocessing(phantom, ("clahe",)).fingerprint == made[1].fingerprint
    assert made[1].to_json()["steps"] == ["clahe"]
    assert " at 0x" not in str(made[1].to_json())


def test_an_unknown_step_is_refused(phantom):
    with pytest.raises(OptionError, match="step 'blur' is not known; needed fundus-crop, ben-graham, clahe"):
        Preprocessing(phantom, ("clahe", "blur"))
    assert parse_steps(" clahe, fundus-crop ,") == ("clahe", "fundus-crop")
    assert parse_steps("") == ()
