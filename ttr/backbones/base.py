"""What ttr knows of a model: where its sites are, and how its attention projects.

The differences between families are data, not code that copies a model: a frozen :class:`Backbone` holds
the untouched model and the places where tokens enter, where they leave, and where MLP neurons and
attention inputs pass. One locator file a family fills it in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from ttr.backbones.finite import check_finite, finite_images
from ttr.backbones.identity import hash_of_weights, state_of
from ttr.backbones.made_input import Preprocess, check_floats
from ttr.backbones.mixing import Mixing
from ttr.backbones.offload import execution_device
from ttr.backbones.own_code import own_code, own_settings
from ttr.backbones.pooling import Pooling, asked_pooling
from ttr.backbones.query_key import QueryKey
from ttr.backbones.transfer import send
from ttr.digests import sha256
from ttr.errors import ImageError, ModelError, OptionError
from ttr.hooks import Site, edits_at, evaluation_mode, keep
from ttr.tokens import TokenLayout, Tokens

if TYPE_CHECKING:
    from PIL.Image import Image

Origin = Literal["random", "pretrained", "file", "phantom", "planted", "in memory"]


@dataclass(frozen=True)
class Weights:
    """Where a backbone's weights came from; said with every result, never guessed."""

    origin: Origin
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.origin} ({self.detail})" if self.detail else self.origin


@dataclass(frozen=True)
class Sites:
    """Where tensors pass in one model.

    Attributes:
        entry: tokens after the position embedding, before the pre-norm.
        exit: tokens on their way to the final norm (or the pooling before it).
        blocks: output of each block, [B, N, D]; registers go in and out with the call of a block.
        mlps: input of each block's MLP, [B, N, D].
        neurons: input of each MLP's down-projection, [B, N, hidden]: the neuron activations.
        attention: input of each block's attention, [B, N, D].
        final_norm: the norm after the last block, applied per token.
        tower: the module whose forward passes all of these (the model, or CLIP's image tower).
        rotary: attention modules whose ``num_prefix_tokens`` tells RoPE how many tokens to leave alone.
        collected: all that the tower returns, where the library lists every block's tokens in it itself
            (transformers' ``hidden_states`` and ``attentions``); the listed registers are dropped here.
        pre_norm: the norm between entry and the first block, or None; a register is what it makes of zeros.
    """

    entry: Site
    exit: Site
    blocks: tuple[Site, ...]
    mlps: tuple[Site, ...]
    neurons: tuple[Site, ...]
    attention: tuple[Site, ...]
    final_norm: nn.Module
    tower: nn.Module
    rotary: tuple[Any, ...] = ()
    collected: Site | None = None
    pre_norm: nn.Module | None = None


@dataclass(frozen=True)
class Backbone:
    """A deployed Vision Transformer and all that ttr needs to know of it. The model stays untouched.

    Attributes:
        model: the caller's own module (the whole CLIP model where that was given).
        name: the name it can be loaded by, or a description for a model from memory.
        layout: tokens at the native image size, without test-time registers.
        image_size: native (height, width) in pixels.
        patch_size: (height, width) of a patch in pixels.
        num_layers: number of transformer blocks.
        num_neurons: MLP hidden width, the same in every block of a model that was not pruned.
        num_heads: attention heads of a block.
        sites: where tensors pass.
        query_key: family's way to an attention's queries and keys, each [B, heads, N, d], and their scale.
        mixing: family's way from attention weights to what a block adds to a token.
        features: the model's own forward to its global feature, [B, 3, H, W] -> [B, D].
        preprocess_image: PIL image -> float tensor [3, H, W], or None when unknown; use ``preprocess``.
        weights: where the weights came from.
        warning: a sentence every page about this backbone must carry (phantoms), or "".
        planted: known (block, neuron) register neurons, strongest first (phantoms).
        any_size: whether the model takes other image sizes than its native one.
        whole_patches: whether these must be multiples of the patch size (no padding).
        channels: of an image, C; where C is not 3, ``[B, 3, H, W]`` stands for ``[B, C, H, W]``.
        no_place: why no token can be inserted into its sequence, or "".
    """

    model: nn.Module
    name: str
    layout: TokenLayout
    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    num_layers: int
    num_neurons: int
    num_heads: int
    sites: Sites
    query_key: QueryKey
    mixing: Mixing
    features: Callable[[Tensor], Tensor]
    preprocess_image: Callable[[Image], Tensor] | None
    weights: Weights
    warning: str = ""
    planted: tuple[tuple[int, int], ...] = ()
    any_size: bool = False
    whole_patches: bool = False
    channels: int = 3
    no_place: str = ""

    def __repr__(self) -> str:
        """Say in a line what it is; a field of it prints as itself."""
        height, width = self.image_size
        return (
            f"Backbone({self.name!r}, {self.num_layers} blocks of {self.num_neurons} neurons, "
            f"{height}x{width} px, weights: {self.weights})"
        )

    def preprocess(self, image: Image) -> Tensor:
        """Turn a PIL image into the model's input, float [3, H, W].

        Raises:
            ImageError: not a PIL image, or one that resizing to the model's size makes too large.
            ModelError: the preprocessing of this in-memory model is unknown, or makes something else.
        """
        return self.preprocess_alone(image)

    @property
    def preprocess_alone(self) -> Preprocess:
        """What :meth:`preprocess` does, without the model, for another process."""
        return Preprocess(self.name, self.image_size, self.channels, self.preprocess_image)

    def _takes(self, size: tuple[int, ...]) -> bool:
        """Return whether the model takes images of (height, width)."""
        if size == self.image_size:
            return True
        whole = all(side % patch == 0 for side, patch in zip(size, self.patch_size, strict=True))
        return self.any_size and (whole or not self.whole_patches)

    @cached_property
    def normalisation(self) -> tuple[Tensor, Tensor] | None:
        """Mean and SD of the preprocessing, (pixel - mean) / SD of 0..1 pixels, [3] each; None when unknown.

        They are measured: whatever the transform is made of, a black and a white image tell both.
        """
        if self.preprocess_image is None:
            return None
        from PIL import Image

        size = self.image_size[::-1]
        black, white = (
            self.preprocess(Image.new("RGB", size, (grey,) * 3)).float().mean(dim=(1, 2)) for grey in (0, 255)
        )
        return -black / (white - black), 1 / (white - black)

    @property
    def pooling(self) -> str:
        """What the model's own feature is, in a word of :mod:`ttr.backbones.pooling`."""
        return getattr(self.features, "pooling", "own forward")

    @property
    def beside_cls(self) -> str:
        """A sentence for whoever looks at CLS of a model whose own feature is not made of it, or ""."""
        if not self.layout.cls or self.pooling in ("cls", "tower"):
            return ""
        own = self.pooling == "own forward"
        made = "is made by a forward of its own" if own else f"is not CLS alone ({self.pooling})"
        return f"The feature of {self.name} {made}; attention maps and faithfulness are those of CLS."

    @property
    def stem(self) -> nn.Module:
        """The first module that takes images: they must come on its device and in its type.

        Other parts may be elsewhere and otherwise: open_clip's ``fp16`` leaves norms and embeddings float32.
        """
        modules = self.sites.tower.modules()
        leaves = (x for x in modules if x._parameters and not any(x.children()))
        return next(leaves, self.model)

    @property
    def device(self) -> torch.device:
        """Device on which the model takes images, also where its weights lie elsewhere until it runs."""
        return execution_device(self.stem)

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type in which the model takes images."""
        return next(
            x.dtype for x in (*self.stem.parameters(), *self.model.parameters()) if x.is_floating_point()
        )

    @property
    def weights_hash(self) -> str:
        """SHA-256 of the state dict (names, shapes, types and bytes), the first 16 hex digits.

        ``unhashed-`` and eight random ones, equal to no other, where a value of it has no bytes that we know.
        It is computed again after a change that torch counts.
        """
        state = state_of(self.model)
        if vars(self).get("_hashed", (None,))[0] != state:
            vars(self)["_hashed"] = state, hash_of_weights(self.model, self.name)
        return str(vars(self)["_hashed"][1])

    @property
    def fingerprint(self) -> str:
        """What decides the features of a tensor, as 16 hex digits.

        Weights, structure, settings, code that is of no library, type and input size.
        """
        own = (own_settings(self.model), own_code(self.model))
        parts = (self.weights_hash, repr(self.model), *own, self.dtype, self.image_size)
        return sha256(["|".join(map(str, parts))], 16)

    def layout_for(self, images: Tensor) -> TokenLayout:
        """Return the bare layout for a batch [B, 3, H, W], whose grid follows its size."""
        height, width = images.shape[-2:]
        if (height, width) == self.image_size:
            return self.layout
        rows, columns = -(-height // self.patch_size[0]), -(-width // self.patch_size[1])
        return replace(self.layout, grid=(rows, columns))

    def layout_of(self, images: Tensor, length: int) -> TokenLayout:
        """Return the layout of a sequence of ``length`` tokens that a batch became, as the model stands now.

        Raises:
            ModelError: other tokens than the model's own and those of a wrap that stands in it.
        """
        layout = self.layout_for(images).for_length(length)
        entering: Any
        held = 0
        for entering in edits_at(Site(self.sites.blocks[0].module, "entering")):
            held = entering.passage.layout.test_time
        if layout.test_time != held:
            raise ModelError(
                f"{self.name} makes {length} tokens of such images; needed {self.layout.prefix} ahead of the "
                f"patches, {held} test-time registers and {layout.patches} patches: give the model from "
                "before tokens were added"
            )
        return layout

    def prepare(self, images: Tensor) -> Tensor:
        """Move a batch [B, 3, H, W] to the model's device and type.

        Raises:
            ModelError: not a batch of RGB images, or of a size that the model does not take.
            ImageError: no tensor, integers, or values that are not finite.
        """
        images = self.place(images)
        check_finite(images)
        return images

    def place(self, images: Tensor) -> Tensor:
        """Do as :meth:`prepare` without its look at the values, for which a GPU must be waited for."""
        self.check_batch(images)
        return send(images, self.device).to(self.dtype)

    def check_batch(self, images: Tensor) -> None:
        """Raise as :meth:`prepare` does, of all but the values."""
        if not isinstance(images, Tensor):
            raise ImageError(
                f"got {type(images).__name__}; needed a tensor [B, 3, H, W]: "
                "torch.stack([backbone.preprocess(image) for image in images])"
            )
        if images.ndim != 4 or images.shape[1] != self.channels:
            raise ModelError(
                f"got images of shape {tuple(images.shape)}; needed [B, {self.channels}, H, W]; "
                "stack single images with torch.stack"
            )
        if not self._takes(size := tuple(images.shape[-2:])):
            patches = "multiples of its {}x{} px patches".format(*self.patch_size)
            raise ModelError(
                f"got images of {size[0]}x{size[1]} px, but {self.name} takes "
                f"{patches if self.any_size else '{}x{} px'.format(*self.image_size)}; "
                "use a preprocessing that makes these, or load it with image_size="
            )
        check_floats(images)
        _refuse_parts_in_shards(self.model)

    def embed(self, images: Tensor, *, pooling: Pooling = "own") -> Tensor:
        """Return the global feature of each image, [B, 3, H, W] -> [B, D], without gradients.

        Args:
            images: a normalised batch.
            pooling: ``"own"``, as the model pools: what it gives its head, the projected image embedding for
                CLIP (not normalised), and CLS for DINOv2 and DINOv3, as their authors publish them;
                :attr:`pooling` says which. ``"cls"``: CLS after the final norm. ``"patches"``: the mean of
                the patches after it, without registers. A model that normalises what it pooled has no norm
                that its tokens pass.

        A wrap that is installed takes part.

        Raises:
            OptionError: no such pooling.
            ModelError: CLS of a model without CLS, a model that pools nothing, or images that do not fit.
            ImageError: no tensor of finite floats.
        """
        with torch.no_grad(), evaluation_mode(self.model), finite_images(given := self.place(images)):
            return self.with_pooling(pooling).features(given)

    def given_out(self, cls: Tensor) -> Tensor:
        """Return what the model gives out of CLS behind the final norm, [B, D] -> [B, E].

        It is CLS itself, or for CLIP its projection into the space shared with text.
        """
        project = getattr(self.features, "project", None)
        return cls if project is None else project(cls)

    def with_pooling(self, pooling: Pooling) -> Backbone:
        """Return this backbone with CLS, or the mean of the patches, as its feature; see :meth:`embed`.

        Raises:
            OptionError: no such pooling.
            ModelError: CLS of a model without CLS.
        """
        return self if pooling == "own" else replace(self, features=asked_pooling(self, pooling))

    def tokens(self, images: Tensor) -> Tokens:
        """Return the tokens after the final norm, by name, without gradients.

        ``cls`` [B, D] (None without CLS), ``registers`` [B, T, D], ``test_time`` [B, R, D] with R the
        number of inserted registers (0 for the bare model), ``patches`` [B, P, D].
        """
        return self.embed_with_tokens(images)[1]

    @torch.no_grad()
    def embed_with_tokens(self, images: Tensor) -> tuple[Tensor, Tokens]:
        """Return :meth:`embed` and :meth:`tokens` of one pass."""
        images = self.place(images)
        with evaluation_mode(self.model), finite_images(images):
            return self.one_pass(images)

    def one_pass(self, images: Tensor) -> tuple[Tensor, Tokens]:
        """Return the same of images that :meth:`prepare` gave; nothing is said of modes and gradients."""
        with keep(self.sites.blocks[-1:]) as kept:
            embedding = self.features(images)
        layout = self.layout_of(images, kept[0].shape[1])
        return embedding, layout.split(self.sites.final_norm.forward(kept[0]))

    def width_of(self, layer: int) -> int:
        """Return how many MLP neurons one block has: of a pruned model, not the same in every block."""
        return int(getattr(self.sites.neurons[layer].module, "in_features", self.num_neurons))

    def require_values(self) -> None:
        """Raise ModelError if the model lies on the meta device, which knows shapes alone."""
        if self.device.type == "meta":
            raise ModelError(f"{self.name} lies on the meta device and has no values; load its weights first")

    def require_cls(self) -> None:
        """Raise ModelError if the model has no CLS token."""
        if not self.layout.cls:
            raise ModelError(f"{self.name} has no CLS token, so it has no CLS attention to show")

    def layer(self, index: int, argument: str = "layer") -> int:
        """Resolve a block index; negative ones count from the last block.

        Raises:
            OptionError: not an integer.
            ModelError: there is no such block.
        """
        if isinstance(index, bool) or not isinstance(index, Integral):
            raise OptionError(f"{argument}={index!r}; needed an integer, a block counted from 0 or from -1")
        if not -self.num_layers <= index < self.num_layers:
            raise ModelError(
                f"{argument}={index}, but {self.name} has {self.num_layers} blocks; "
                f"give {-self.num_layers}..{self.num_layers - 1}"
            )
        return int(index) % self.num_layers


def _refuse_parts_in_shards(model: nn.Module) -> None:
    """Raise ModelError where FSDP would not gather the weights for the method that gives us the tokens."""
    sharded = any(kind.__name__ == "FSDPModule" for kind in type(model).__mro__)
    if sharded and hasattr(model, "forward_features") and "forward_features" not in vars(model):
        raise ModelError(
            "this model is sharded by FSDP, which gathers its weights in forward alone; call "
            "torch.distributed.fsdp.register_fsdp_forward_method(model, 'forward_features') first"
        )
