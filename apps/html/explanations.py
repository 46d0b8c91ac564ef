"""What the page explains, two sentences a view, for someone who reads images and not code."""

from __future__ import annotations

ATTENTION = (
    "The model cuts the image into squares and sums it up in one token, called CLS; bright squares are "
    "those that this token takes most from. A few bright squares on an empty border are usually "
    "artefacts, and the map after the move shows what is left when these are gone."
)
NORMS = (
    "Every square is described by a list of numbers, and the norm is how long that list is; ordinary "
    "squares are about equally long. A square far above the rest has stopped describing its place and "
    "stores something about the whole image instead."
)
COLOURS = (
    "Squares with like colours look alike to the model, before and after on one palette (its first three "
    "principal components). Anatomy should come out in patches of its own; speckles that belong to no "
    "structure are artefacts."
)
CURVES = (
    "The model works in steps called blocks, from left to right. The lines show in which block "
    "artefacts appear, and whether they are gone after the move."
)
PROMPTS = (
    "A CLIP model was trained to match whole images with words; here its measure of the match is read square "
    "by square, and brighter squares fit the words better. It never learnt to do this for single squares, so "
    "take the map as a hint where to look, and never as a finding."
)
MARKER = (
    "A letter or ruler is burnt into your image, and the model sees the image with and without it. If its "
    "attention or its answer goes along, it reads markers where it should read anatomy."
)
BATCH = (
    "Every image runs through the model that Compare has chosen. The table keeps numbers alone; the files "
    "are forgotten within the hour."
)
BATCH_WHY = (
    "Each line is one image, and the first lines are those whose attention map says least about where the "
    "model’s answer comes from. Faithful means: the image’s feature, made of what the squares give alone, "
    "points the same way as the whole (1 is the same, 0 is unrelated)."
)
NO_IMAGE = "There is no image yet. Open one in the tab Compare."
PAGE = (
    "Some Vision Transformers store information in a few image squares where it does not belong, and "
    "their attention maps light up there. This page moves that storage onto extra tokens and shows the "
    "map before and after, with how far each can be trusted. Nothing leaves this machine."
)


def why(text: str) -> str:
    """Return an explanation as HTML that opens on demand."""
    from markupsafe import escape

    return f'<details class="ttr-why"><summary>What am I looking at?</summary><p>{escape(text)}</p></details>'


def empty(text: str, command: str = "") -> str:
    """Return an empty state as HTML: what is missing, and the command that makes it, if one does."""
    from markupsafe import escape

    code = f"<code>{escape(command)}</code>" if command else ""
    return f'<div class="ttr-empty"><p>{escape(text)}</p>{code}</div>'
