"""What CLS is made of: the share of patches, registers, CLS itself and the skip connection (Lappe and Giese).

In a block, CLS becomes  o = sum_i a_i v_i + o_prev.  Lappe and Giese (2025, arXiv 2505.05892, eq. 3 and 6)
split the sum by the kind of token,

    o = patches + registers + CLS itself + constant + skip,

each after the output projection and the layer scale, so that all are lengths in one residual stream. The
projection's bias belongs to no token: it is the constant, a part of its own, and it stays in every restricted
output. An attention map shows a_i over the patches. It tells the truth about the image's feature only as far
as that feature is made of the patches; :func:`restricted` makes the feature of one part alone:

    patches     attention weights of all other tokens set to zero (not renormalised), no skip connection
    registers   the same with the trained and test-time registers alone
    cls         the same with CLS's own value alone
    skip        all weights zero, the skip connection alone
    full        nothing left out; the model's own output

and sends it through the rest of the block, the later blocks (whose other tokens attend to that CLS), and the
final norm (for CLIP also the projection into the space it shares with text: what the model gives out).
Nothing of a model is copied: the block itself runs, on CLS alone, with what its attention gives
replaced by a hook and what it is given set to zero where the skip connection is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ttr.backbones.base import Backbone
from ttr.errors import OptionError
from ttr.forward.attention import attention_rows
from ttr.forward.blocks import SeenBlock
from ttr.hooks import Site, bypass, edit, edits_at, evaluation_mode
from ttr.tokens import Group, TokenLayout

PartName = Literal["patches", "registers", "cls", "skip", "full"]
PARTS: tuple[PartName, ...] = ("patches", "registers", "cls", "skip")
GROUPS: dict[PartName, Group] = {"patches": "patches", "registers": "all_registers", "cls": "cls"}


@dataclass(frozen=True)
class Split:
    """What one block adds to CLS, by where it comes from; together with the skip it is the CLS behind it.

    Attributes:
        contributions: {patches, registers, cls, skip: float32 [B, D]}; skip is CLS before the block.
        constant: the bias of the output projection, [B, D].
        shares: {patches, registers, cls: attention of CLS, mean of the heads, float32 [B], 0..1}.
    """

    contributions: Mapping[PartName, Tensor]
    constant: Tensor
    shares: Mapping[PartName, Tensor]

    def total(self) -> Tensor:
        """Return the sum of all: CLS behind the block's attention and skip connection, [B, D]."""
        return torch.stack([*self.contributions.values(), self.constant]).sum(dim=0)

    def attended(self, part: PartName = "full") -> Tensor:
        """Return what the block's attention alone gives CLS, of all tokens or of one part, [B, D].

        The skip connection is on neither side of that comparison, and neither passes the MLP and the norm:
        so compares section 3 of the study, and section 4 as :func:`restricted` does.
        """
        kept = [self.contributions[each] for each in GROUPS if part in (each, "full")]
        return torch.stack([*kept, self.constant]).sum(dim=0)


def cls_attention(backbone: Backbone, block: int, seen: SeenBlock) -> Tensor:
    """Return the attention of CLS over all tokens, float32 [B, heads, N]."""
    module = backbone.sites.attention[block].module
    cls = backbone.layout.where("cls")
    return attention_rows(backbone, module, seen.normed, seen.attention_arguments, cls)[:, :, 0]


@torch.no_grad()
def split(backbone: Backbone, layout: TokenLayout, block: int, seen: SeenBlock) -> Split:
    """Split what block ``block`` makes of CLS into its contributions (eq. 3 and 6; see the module).

    Args:
        backbone: as it ran; a wrap may be installed.
        layout: the tokens of that pass, test-time registers included.
        block: index of the block, 0..L-1.
        seen: what :func:`ttr.forward.blocks.watch` saw of it.

    Raises:
        ModelError: the branch ends in a norm, so that contributions cannot be told apart.
    """
    sites = backbone.sites
    attention, scale = sites.attention[block].module, backbone.mixing.scale(sites.blocks[block].module)
    weights = cls_attention(backbone, block, seen)
    values = backbone.mixing.value(attention, seen.normed, seen.attention_arguments)
    mixes = torch.stack([_mix(layout, weights, values, part) for part in GROUPS])
    cls_input = layout.select(seen.normed, "cls")[:, 0]
    parts, constant = backbone.mixing.output(attention).contributions(mixes.to(seen.normed.dtype), cls_input)
    if scale is not None:
        parts, constant = parts * scale, constant * scale
    contributions: dict[PartName, Tensor] = {p: x.float() for p, x in zip(GROUPS, parts, strict=True)}
    contributions["skip"] = layout.select(seen.tokens, "cls")[:, 0].float()
    shares: dict[PartName, Tensor] = {
        part: layout.select(weights, group, dim=2).sum(dim=2).mean(dim=1) for part, group in GROUPS.items()
    }
    return Split(contributions, constant.float(), shares)


@torch.no_grad()
def restricted(
    backbone: Backbone,
    layout: TokenLayout,
    block: int,
    seen: Mapping[int, SeenBlock],
    *,
    parts: Sequence[PartName] = PARTS,
    renormalise: bool = False,
    keep_skip: bool = False,
    weights: Tensor | None = None,
) -> dict[PartName, Tensor]:
    """Return CLS as the model gives it out, made in block ``block`` of one part alone; see the module.

    A wrap that was installed during the pass must stand while this runs.

    Args:
        backbone: as it ran.
        layout: the tokens of that pass, test-time registers included.
        block: where CLS is restricted, 0..L-1.
        seen: what :func:`ttr.forward.blocks.watch` saw, of this block and all later ones.
        parts: which of patches, registers, cls, skip, full; registers are left out where there are none.
        renormalise: divide the kept weights by their sum, head by head; the published way leaves them.
        keep_skip: keep the skip connection beside every part: attention is restricted, the residual stream
            is not. The published comparison leaves it out, as the default does: with it, a model whose CLS
            comes through the skip connection would pass for one that is made of patches.
        weights: attention of CLS in this block, float32 [B, heads, N], where it is known already.

    Returns:
        {part: float32 [B, E]}.

    Raises:
        OptionError: an unknown part.
    """
    unknown = [part for part in parts if part not in (*PARTS, "full")]
    if unknown:
        raise OptionError(f"part {unknown[0]!r}; needed one or more of {', '.join(PARTS)}, full")
    here, attention = seen[block], backbone.sites.attention[block].module
    weights = cls_attention(backbone, block, here) if weights is None else weights
    values = backbone.mixing.value(attention, here.normed, here.attention_arguments)
    cls_input = layout.select(here.normed, "cls")[:, 0]
    skip = layout.select(here.tokens, "cls")[:, 0]
    found: dict[PartName, Tensor] = {}
    with evaluation_mode(backbone.model):
        for part in parts:
            if part == "registers" and not layout.registers + layout.test_time:
                continue
            mix = _mix(layout, weights, values, part, renormalise).to(cls_input.dtype)
            given = backbone.mixing.output(attention)(mix, cls_input)
            kept = skip if keep_skip or part in ("skip", "full") else torch.zeros_like(skip)
            cls = _through_block(backbone, layout, block, here, given, kept)
            found[part] = _to_the_end(backbone, layout, block, seen, cls)
    return found


def remade(
    backbone: Backbone, layout: TokenLayout, block: int, seen: Mapping[int, SeenBlock]
) -> Callable[[Tensor], Tensor]:
    """Return what makes CLS once more with other attention weights in a block, and all else as it was.

    It takes weights, float32 [B, heads, N], which need not sum to one, and returns what :func:`full_output`
    does of the model's own. Arguments as in :func:`restricted`.
    """
    here, attention = seen[block], backbone.sites.attention[block].module
    values = backbone.mixing.value(attention, here.normed, here.attention_arguments)
    cls_input = layout.select(here.normed, "cls")[:, 0]
    skip = layout.select(here.tokens, "cls")[:, 0]

    @torch.no_grad()
    def make(weights: Tensor) -> Tensor:
        mix = _mix(layout, weights, values, "full").to(cls_input.dtype)
        given = backbone.mixing.output(attention)(mix, cls_input)
        with evaluation_mode(backbone.model):
            cls = _through_block(backbone, layout, block, here, given, skip)
            return _to_the_end(backbone, layout, block, seen, cls)

    return make


@torch.no_grad()
def full_output(backbone: Backbone, layout: TokenLayout, seen: Mapping[int, SeenBlock]) -> Tensor:
    """Return CLS as the pass gave it out, float32 [B, E]: behind the final norm, and CLIP's projection."""
    return _given_out(backbone, layout.select(seen[backbone.num_layers - 1].output, "cls"))


def _given_out(backbone: Backbone, cls: Tensor) -> Tensor:
    """Return CLS behind the last block, [B, 1, D], as the model gives it out, float32 [B, E]."""
    return backbone.given_out(backbone.sites.final_norm.forward(cls)[:, 0]).float()


def _mix(
    layout: TokenLayout, weights: Tensor, values: Tensor, part: PartName, renormalise: bool = False
) -> Tensor:
    """Return the heads' mix of the values of one part's tokens, [B, heads * d]."""
    if part == "skip":
        return torch.zeros_like(values[:, :, 0]).flatten(1)
    if part in GROUPS:
        weights, values = (layout.select(x, GROUPS[part], dim=2) for x in (weights, values))
    if renormalise:
        weights = weights / weights.sum(dim=2, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    return (weights[:, :, None] @ values.to(weights.dtype))[:, :, 0].flatten(1)


def _through_block(
    backbone: Backbone, layout: TokenLayout, block: int, seen: SeenBlock, given: Tensor, skip: Tensor
) -> Tensor:
    """Run one block for CLS, with what its attention gives it and its skip connection set, [B, D] -> [B, D].

    CLS runs alone, or with the registers where a wrap stands in this block. Where that moves neurons, which
    asks all tokens, all run.
    """
    sites, standing = backbone.sites, edits_at(backbone.sites.neurons[block])
    if any(_asks_the_patches(each) for each in standing):
        attended = layout.with_cls(seen.attended, given)
        tokens = _set_aside(backbone, layout, block, layout.with_cls(seen.tokens, skip))
        arguments = seen.arguments
    elif standing:
        ahead = layout.without_patches()
        attended = ahead.with_cls(layout.select(seen.attended, "ahead"), given)
        beside = ahead.with_cls(layout.select(seen.tokens, "ahead"), skip)
        tokens = _set_aside(backbone, ahead, block, beside)
        arguments = {name: _of_no_patch(value) for name, value in seen.arguments.items()}
    else:
        attended, tokens = given[:, None], skip[:, None]
        arguments = {name: _of_no_patch(value) for name, value in seen.arguments.items()}
    attention = sites.attention[block].module
    with (
        bypass([attention], seen.returned),
        edit([(Site(attention, "output"), lambda output: attended)]),
    ):
        return layout.select(_run(backbone, block, tokens, arguments), "cls")[:, 0]


def _to_the_end(
    backbone: Backbone, layout: TokenLayout, block: int, seen: Mapping[int, SeenBlock], cls: Tensor
) -> Tensor:
    """Send another CLS behind ``block`` through the later blocks and the final norm, [B, D] -> [B, D]."""
    if block + 1 < backbone.num_layers:
        tokens = _set_aside(backbone, layout, block + 1, layout.with_cls(seen[block + 1].tokens, cls))
        for later in range(block + 1, backbone.num_layers):
            tokens = _run(backbone, later, tokens, seen[later].arguments)
        cls = layout.select(tokens, "cls")[:, 0]
    return _given_out(backbone, cls[:, None])


def _set_aside(backbone: Backbone, layout: TokenLayout, block: int, tokens: Tensor) -> Tensor:
    """Return tokens as a block takes them: where a wrap stands in it, its registers go beside them."""
    entering: Any
    for entering in edits_at(Site(backbone.sites.blocks[block].module, "entering")):
        tokens = layout.set_aside(tokens, entering.passage.wrap)
    return tokens


def _run(backbone: Backbone, block: int, tokens: Tensor, arguments: Mapping[str, Any]) -> Tensor:
    given = {**backbone.mixing.block_arguments, **arguments}
    output = backbone.sites.blocks[block].module(tokens, **given)
    return output[0] if isinstance(output, tuple) else output


def _asks_the_patches(edit: Any) -> bool:
    """Return whether an edit of a block's neurons computes with other tokens than it writes."""
    passage = getattr(edit, "passage", None)
    return passage is None or passage.moves


def _of_no_patch(value: Any) -> Any:
    """Cut a rotary embedding, [..., P, d], to no patch: a CLS token alone is not turned."""
    if isinstance(value, tuple):
        return tuple(map(_of_no_patch, value))
    return value[..., :0, :] if isinstance(value, Tensor) else value
