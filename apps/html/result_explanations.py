"""What the tabs of results explain, two sentences a view, and the commands that fill them."""

from __future__ import annotations

MAKE_ABLATION = "ttr ablate --backbone phantom-reg4 --dataset phantom --out results/ablation"
MAKE_BENCHMARK = "ttr bench --backbone phantom --dataset phantom --out results/bench"
MAKE_INTEGRATION = (
    "ttr integrate --backbone phantom-registers --dataset phantom --blocks 0..5 --out results/integration"
)
OPEN = "ttr app --results results"

HEATMAP = (
    "Each row replaces some tokens inside the model, and each column is a task that is tested again on the "
    "same images. A loss under zeroing alone may come from the zero, which the model never met; what "
    "plausible replacements (mean, noise, shuffle) lose as well is what the tokens themselves hold."
)
FLOWS = (
    "Every token takes from the others by attention; each row says how it is shared out, its first three "
    "cells sum to one. Registers that take much are a place where the model stores something."
)
SOURCES = (
    "The same shares for one kind of token, from the first block to the last. Shaded is the 95 % interval "
    "over images."
)
DIVERGENCE = (
    "How different attention is from that of the untouched model: 0 is equal, 0.693 (ln 2) is disjoint. "
    "Colour is the substitute; solid lines replace all registers, dotted ones some, dashed ones CLS, "
    "dash-dotted ones patches."
)
ADDITIVITY = (
    "If registers worked each for itself, zeroing all of them would cost the sum of zeroing each. The last "
    "bar is how far that is from true."
)
GEOMETRY = (
    "A cosine near 1 says that the patches hardly change under a condition. Effective rank counts the "
    "directions that an image’s patches spread over: few directions, little local detail."
)
PROBING = (
    "A simple classifier reads CLS, or one register, behind each block; the higher its line, the more of the "
    "class is to be read there. Dotted is what guessing would reach."
)
DENSE = (
    "The patches of each block are used for tasks about places: finding the same point again, or naming what "
    "each square shows. Where the line is highest, the patches know most about their place."
)
COSINES = (
    "Near 1, two registers hold nearly the same; near 0, they have nothing in common. Likeness at the end of "
    "the model does not say that they do the same work before."
)
FAITHFUL = (
    "In one block CLS is made of one part alone, and the result is compared with the model’s own feature: "
    "near 1, that part makes it. Where the patches’ line is low, an attention map of that block shows "
    "something else than what the feature is made of."
)
NORM_MAPS = (
    "Each square’s brightness is the length of its token behind the last block, on one scale for all maps. "
    "Bright single squares are outliers: they store something about the whole image."
)
COLOUR_MAPS = (
    "The three main directions of the squares’ features are shown as red, green and blue, on one basis for "
    "all images and conditions. Equal colours are equal features."
)
OVERLAYS = (
    "Where one token, CLS or a register, looks in the last block, laid over the image. A clean map is not "
    "yet a faithful one; the tab Layers says how faithful."
)
GALLERY = (
    "For each register, the squares that its token resembles most, each with a margin around it. A likeness "
    "is no proof of what a register holds."
)
BENCHMARK = (
    "The same test images are classified before and after, and every number has the interval that other "
    "images like these might give. Where it says “not distinguishable”, this set cannot tell the two apart."
)
ARMS = (
    "plain is the bare model. token has blank tokens and no neuron edited: the medical study’s baseline, so "
    "its before and after mix two changes. neurons has the register neurons zeroed and no token; ttr has "
    "them moved onto test-time registers; random moves as many random neurons of the same blocks."
)
HEADS = (
    "linear and logistic are heads trained anew on each arm’s features: what do these hold? linear:plain and "
    "logistic:plain were trained on the bare model and meet the arm in the test alone: what happens to a "
    "head that is in use already?"
)


def missing(file: str, how: str) -> str:
    """Return what stands where an analysis was not asked for."""
    from markupsafe import escape

    return f'<p class="ttr-missing">{escape(file)} is not in this result. {escape(how)}</p>'


ANALYSES = "Run ttr ablate with --analysis-images 1 or more."
CONDITIONS = "Run ttr ablate with --conditions all on a model with two registers or more."
DENSE_TASKS = (
    "Run ttr ablate with --tasks correspondence or segmentation, and with --analysis-images 1 or more."
)
COSINES_BY = (
    "Run ttr ablate on a model with registers, or with --num-registers 1 or more, and with --analysis-images "
    "1 or more."
)
NO_REGISTERS = (
    "This model has no registers. Run ttr ablate with --num-registers 1 or more for test-time registers."
)
