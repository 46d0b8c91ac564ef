"""What the page explains, two sentences a view, for someone who reads images and not code.

Of the tabs over results also the commands that fill them.
"""

from __future__ import annotations

ATTENTION = (
    "The model cuts the image into squares and sums it up in one token, called CLS; bright squares are "
    "those that this token takes most from. A few bright squares on an empty border are usually "
    "artifacts, and the map after the move shows what is left when these are gone."
)
NORMS = (
    "Every square is described by a list of numbers, and the norm is how long that list is; ordinary "
    "squares are about equally long. A square far above the rest has stopped describing its place and "
    "stores something about the whole image instead."
)
COLOURS = (
    "Squares with like colours look alike to the model, before and after on one palette (its first three "
    "principal components). Anatomy should come out in patches of its own; speckles that belong to no "
    "structure are artifacts."
)
CURVES = (
    "The model works in steps called blocks, from left to right. The lines show in which block "
    "artifacts appear, and whether they are gone after the move."
)
PROMPTS = (
    "A CLIP model was trained to match whole images with words; here its measure of the match is read square "
    "by square, and brighter squares fit the words better. It never learnt to do this for single squares, so "
    "take the map as a hint where to look, and never as a finding."
)
ATTRIBUTION = (
    "Attention says where the model looks; other methods say which squares an answer comes from, a class or "
    "words. They often disagree, and none is the truth: an outline of the finding says how much of a map "
    "lies where it should. (Perturbation, which asks a pass for every square, is left to ttr.attribute.)"
)
MARKER = (
    "A letter or ruler is burnt into your image, and the model sees the image with and without it. If its "
    "attention or its answer goes along, it reads markers where it should read anatomy."
)
BATCH = (
    "Every image runs through the model that Compare has chosen. The table keeps its numbers and a "
    "thumbnail; the files are forgotten within the hour."
)
BATCH_WHY = (
    "Each line is one image, and the first lines are those whose attention map says least about where the "
    "model’s answer comes from. Faithful means: what is this image’s own in the feature is made by the "
    "squares (1 is all of it, 0 is nothing), the map is bright where they give it, and without the brightest "
    "squares the feature would be another."
)
NO_IMAGE = "There is no image here now. Open one in the tab Compare."
CHOOSE = "There is no image here now. Upload one above, or all files of a series, or take a sample."
COMING = "There is no image here now. Yours is shown once it has arrived and was read."
PAGE = (
    "Some Vision Transformers store information in a few image squares where it does not belong, and "
    "their attention maps light up there. This page moves that storage onto extra tokens and shows the "
    "map before and after, with how far each can be trusted. Images stay on the machine that serves this "
    "page."
)


def why(text: str) -> str:
    """Return an explanation as HTML that opens on demand."""
    from markupsafe import escape

    return f'<details class="ttr-why"><summary>What am I looking at?</summary><p>{escape(text)}</p></details>'


#: Words of the field, for someone who reads images and not code.
WORDS = {
    "patch": "The image is cut into squares, called patches; a map has one number a patch.",
    "token": "What the model keeps of one patch, a list of numbers that each block rewrites.",
    "CLS": "One more token, which belongs to no patch and sums the image up; most answers are read from it.",
    "block": "One step of the model: every token looks at all others, then is rewritten.",
    "head": "A block looks in several ways at once, each called a head; their mean is shown first.",
    "attention": "How much of what a token takes comes from each other token; all of it adds up to 1.",
    "norm": "How long a token’s list of numbers is; far above the rest, it stores what is no place’s own.",
    "register": "A token without a patch, for what would else be stored on patches. A test-time register is "
    "added to a model that was trained without.",
    "faithfulness": "How much of what is this image’s own in the feature comes from the patches, 0 to 1, and "
    "whether the map is bright where they give it.",
}


def words() -> str:
    """Return the words of the field as HTML, each explained when it is pressed or touched."""
    from ttr.drawing.html import fill

    return fill("app_words.html", words=WORDS)


def empty(text: str, command: str = "") -> str:
    """Return an empty state as HTML: what is missing, and the command that makes it, if one does."""
    from markupsafe import escape

    code = f"<code>{escape(command)}</code>" if command else ""
    return f'<div class="ttr-empty"><p>{escape(text)}</p>{code}</div>'


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
    "In one block CLS is made of one part alone, and the result is compared with the model’s own feature, "
    "less what all images have in common: near 1, that part makes it. Where the patches’ line is low, an "
    "attention map of that block shows something else than what the feature is made of."
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
