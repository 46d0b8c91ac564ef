"""The models behind the page: what they are cautious of, and that they keep nothing of an image."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import ttr
from ttr.apps.image.intake import take_in
from ttr.apps.image.workbench import Workbench
from ttr.datasets.registry import sample_paths


def test_neurons_of_another_resolution_or_of_other_weights_come_with_one_warning(phantom):
    workbench = Workbench({"phantom": lambda: phantom})
    picture = take_in(sample_paths()["fundus"])
    neurons = ttr.RegisterNeurons.from_pairs(phantom.planted)
    origin = replace(neurons.provenance, backbone="phantom", image_size=(160, 160), weights_hash="another")
    chosen = workbench.fitted("phantom", "from a file", replace(neurons, provenance=origin))
    assert chosen.caution == (
        "The register neurons were found at 160 px, and this model runs at 224 px; "
        "detect them again at this resolution."
    )
    assert chosen.caution in workbench.case(picture, chosen).cautions
    origin = replace(origin, image_size=phantom.image_size)
    chosen = workbench.fitted("phantom", "from a file", replace(neurons, provenance=origin))
    assert chosen.caution.startswith("The register neurons were found on other weights than these")
    origin = replace(origin, weights_hash=phantom.weights_hash)
    assert not workbench.fitted("phantom", "from a file", replace(neurons, provenance=origin)).caution


def test_what_was_computed_of_an_image_goes_with_its_case(phantom):
    """So a server does not grow with its visitors, whatever the allocator does with what it gets back."""
    workbench = Workbench({"phantom": lambda: phantom})
    chosen = workbench.choose("phantom")
    case = workbench.case(take_in(sample_paths()["fundus"]), chosen)
    held = [weakref.ref(each) for each in (case, case.picture, case.inspection, case.inspection.comparison)]
    del case
    gc.collect()
    assert [reference() for reference in held] == [None] * 4
