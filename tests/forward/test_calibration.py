"""Calibration: streaming moments against a two-pass float64 computation, the bank, and its file."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import ttr
from tests.tools.tiny_models import SIZE, scramble, tiny_vit
from ttr.errors import ImageError, ModelError, OptionError
from ttr.forward.calibration import Calibration, calibrate
from ttr.hooks import capture


@pytest.fixture(scope="module")
def backbone():
    return ttr.adapt(scramble(tiny_vit(reg_tokens=2, no_embed_class=True)))


@pytest.fixture(scope="module")
def many() -> torch.Tensor:
    # A large common offset is what naive sums of squares cancel on.
    return 3 + torch.randn(37, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5))


def outputs(backbone, images) -> list[torch.Tensor]:
    kept: list[torch.Tensor] = []
    with capture(backbone.sites.blocks, lambda i, x, kwargs: kept.append(x)):
        backbone.embed(images)
    return kept


def test_moments_equal_a_two_pass_computation_in_float64(backbone, many):
    found = calibrate(backbone, many, batch_size=8)
    assert found.images == 37
    for block, x in enumerate(outputs(backbone, many)):
        alone, patches = x[:, :3].double(), x[:, 3:].double().flatten(0, 1)
        mean = torch.cat([alone.mean(dim=0), patches.mean(dim=0)[None]])
        variance = torch.cat([alone.var(dim=0, correction=0), patches.var(dim=0, correction=0)[None]])
        torch.testing.assert_close(found.mean[block].double(), mean, rtol=0, atol=1e-5)
        torch.testing.assert_close(found.variance[block].double(), variance, rtol=1e-5, atol=1e-5)


def test_the_batches_do_not_matter(backbone, many):
    one, other = (calibrate(backbone, many, batch_size=size, bank=5) for size in (1, 37))
    torch.testing.assert_close(one.mean, other.mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(one.variance, other.variance, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one.bank, other.bank, rtol=0, atol=1e-4)


def test_the_bank_holds_tokens_of_calibration_images(backbone, many):
    found = calibrate(backbone, many, bank=6, seed=1)
    assert found.bank.shape == (6, 3, 4, 24)
    everything = torch.stack(outputs(backbone, many), dim=1)
    origins = []
    for tokens in found.bank:
        distances = (everything[:, :, :3] - tokens[:, :3]).abs().amax(dim=(1, 2, 3))
        origins.append(int(distances.argmin()))
        assert distances.min() < 1e-4
        patches = (everything[origins[-1], :, 3:] - tokens[:, 3:]).abs().amax(dim=(0, 2))
        assert patches.min() < 1e-4
    assert len(set(origins)) == 6
    assert calibrate(backbone, many[:4], bank=6).bank.shape[0] == 4


def test_a_wrap_takes_part(backbone, many):
    neurons = ttr.RegisterNeurons.from_pairs([(0, 3), (1, 7)])
    with ttr.TestTimeRegisters(backbone, neurons, num_registers=2):
        wrapped = calibrate(backbone, many)
    assert wrapped.mean.shape == (3, 6, 24)
    assert calibrate(backbone, many).mean.shape == (3, 4, 24)


def test_a_file_is_exact_and_equal_calibrations_are_equal_bytes(backbone, many, tmp_path):
    found = calibrate(backbone, many)
    found.save(tmp_path / "a.safetensors")
    calibrate(backbone, many).save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    again = Calibration.load(tmp_path / "a.safetensors")
    for name in ("mean", "variance", "bank"):
        assert torch.equal(getattr(again, name), getattr(found, name))
    assert (again.images, again.digest) == (37, found.digest)


def test_nothing_and_other_files_are_refused(backbone, tmp_path):
    with pytest.raises(ImageError, match="at least one to calibrate on"):
        calibrate(backbone, [])
    (tmp_path / "no.safetensors").write_bytes(b"nothing")
    for path in (tmp_path / "no.safetensors", tmp_path / "missing.safetensors"):
        with pytest.raises(ModelError, match="is no calibration of schema ttr.calibration/2"):
            Calibration.load(path)


def test_values_and_shapes_that_are_none_are_refused(backbone, many):
    made = calibrate(backbone, many[:4])
    for parts, complaint in (
        ({"variance": made.variance * torch.nan}, "variance of this calibration holds 288 NaN of 288 values"),
        ({"bank": made.bank / 0}, "bank of this calibration holds"),
        ({"mean": made.mean.cfloat()}, "mean of this calibration is of type complex64"),
        ({"mean": made.mean[0]}, r"needed \[L, S, D\] twice"),
        ({"bank": made.bank[0]}, r"needed \[L, S, D\] twice"),
    ):
        with pytest.raises(ModelError, match=complaint):
            dataclasses.replace(made, **parts)
    with pytest.raises(OptionError, match="images=True"):
        dataclasses.replace(made, images=True)
    with pytest.raises(OptionError, match="bank=True"):
        calibrate(backbone, many[:4], bank=True)
