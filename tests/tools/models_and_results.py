"""The fixtures that need torch: tiny models and images, the phantom, small results made once in a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ttr  # before timm: it lets torchvision import beside a CPU build of torch

# isort: split
import pytest
import torch
from torch import Tensor, nn

from tests.tools import small_results
from tests.tools.tiny_models import FAMILIES, SIZE, scramble
from ttr.drawing import maps

# Nobody counts the dots of a chart here, and coarse ones are drawn in a third of the time.
maps.DPI = 50


@pytest.fixture(params=sorted(FAMILIES))
def model(request: pytest.FixtureRequest) -> nn.Module:
    return scramble(FAMILIES[request.param]())


@pytest.fixture
def images() -> Tensor:
    return torch.randn(5, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _restore_global_generator() -> Iterator[None]:
    """Tests that draw from the global generator leave it as they found it."""
    before = torch.random.get_rng_state()
    yield
    torch.random.set_rng_state(before)


@pytest.fixture(scope="session")
def phantom():

    return ttr.load("phantom")


@pytest.fixture(scope="session")
def phantom_batch(phantom) -> Tensor:
    from ttr.datasets.phantom import phantom_images

    return torch.stack([phantom.preprocess(p.image) for p in phantom_images(8)])


@pytest.fixture(scope="session")
def small_ablation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small ablation, for reading; see :mod:`tests.tools.small_results`."""
    return small_results.made_once(tmp_path_factory, "ablation", small_results.small_ablation)


@pytest.fixture(scope="session")
def small_bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small benchmark, for reading."""
    return small_results.made_once(tmp_path_factory, "bench", small_results.small_bench)


@pytest.fixture(scope="session")
def small_integration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small integration, for reading."""
    return small_results.made_once(tmp_path_factory, "integration", small_results.small_integration)
