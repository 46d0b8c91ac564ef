"""Weights of an ONNX export, read from its graph; nothing of it is executed.

Exporters keep most names and drop those of what they fold. The weight of a linear layer lies transposed in
an anonymous initialiser: it is the one that the MatMul before the layer's bias multiplies with, or, without a
bias, that of the MatMul which the exporter calls after the layer. Class token and positions, where they are
anonymous, are what the patch embedding's output is joined with and what is added to that. What a graph does
not say so is absent from the result, and missed by name when a model is filled.
"""

from __future__ import annotations

import ast
import math
import os
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ttr.errors import ModelError
from ttr.files import read_bytes
from ttr.wording import install

#: No single file of the format may be larger.
_MOST_BYTES = 2 << 30
#: Parameters have dotted names, or lie at the top and are called so; constants of the graph do neither.
_PARAMETER = re.compile(r"(?:\w+\.)+\w+|(\w+_)?(?:tokens?|embed|embedding)|logit_scale|logit_bias")
#: Nodes that leave values what they are, as far as they are followed.
_SAME = frozenset(
    {"Identity", "Cast", "Reshape", "Transpose", "Flatten", "Expand", "Resize", "Squeeze", "Unsqueeze"}
)
#: How the patch embedding is called, with what is called beside it: place, class token, registers, positions.
_LAYOUTS = {
    "patch_embed.": ("", "cls_token", "reg_token", "pos_embed"),
    "embeddings.patch_embeddings.": ("embeddings.", "cls_token", "register_tokens", "position_embeddings"),
}
_TYPES = {1: torch.float32, 10: torch.float16, 11: torch.float64, 16: torch.bfloat16}


def read_onnx(path: Path) -> dict[str, Tensor]:
    """Return the named weights of an ONNX file, {name: tensor}, those of linear layers as [out, in].

    Raises:
        ModelError: the onnx package is not installed, or tensors claim more than the files hold, or lie
            outside the file's folder.
        Exception: whatever the package raises for a file that is no ONNX model.
    """
    try:
        import onnx
    except ImportError as error:
        raise ModelError(f"reading {path} needs the onnx package; {install('real')}") from error
    try:
        content = read_bytes(path, _MOST_BYTES)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error}); give a file of an ONNX export") from error
    graph = _Graph(path, onnx.load_model_from_string(content).graph)
    state = {name: value for name in graph.names() if (value := graph.value(name)) is not None}
    state |= graph.linears(state)
    state |= graph.tokens(state)
    if not state:
        raise ModelError(
            f"{path} is an ONNX file without named weights; export the model anew, its parameters' names kept"
        )
    return state


class _Graph:
    """Who makes and who takes each value of a graph."""

    def __init__(self, path: Path, graph: Any) -> None:
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._nodes = list(graph.node)
        self._makers = {name: node for node in self._nodes for name in node.output}
        self._takers = defaultdict(list)
        for node in self._nodes:
            for name in node.input:
                self._takers[name].append(node)
        self._files = _Files(path)
        self._read: dict[str, Tensor | None] = {}

    def names(self) -> list[str]:
        """Return the names of parameters: of initialisers, and of what stands for an equal one."""
        twins = (node.output[0] for node in self._nodes if node.op_type == "Identity")
        return [name for name in (*self._tensors, *twins) if _PARAMETER.fullmatch(name)]

    def value(self, name: str) -> Tensor | None:
        """Return a constant of floats as it was saved, or None where there is no such thing."""
        seen = 0
        while name not in self._tensors:
            node = self._makers.get(name)
            if node is None or seen > len(self._nodes):
                return None
            if node.op_type == "Constant":
                return self._files.tensor(node.attribute[0].t) if node.attribute else None
            if node.op_type not in ("Identity", "Cast"):
                return self._transposed(node)
            name, seen = node.input[0], seen + 1
        if name not in self._read:
            self._read[name] = self._files.tensor(self._tensors[name])
        return self._read[name]

    def _transposed(self, node: Any) -> Tensor | None:
        if node.op_type != "Transpose" or node.input[0] not in self._tensors:
            return None
        value = self.value(node.input[0])
        return value.T if value is not None and value.ndim == 2 else None

    def linears(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights of linear layers that have no name of their own, {name: [out, in]}."""
        found: dict[str, Tensor] = {}
        products = {node.output[0]: node for node in self._nodes if node.op_type in ("MatMul", "Gemm")}
        for node in self._nodes:
            for bias in (name for name in node.input if name in state and name.endswith(".bias")):
                before = node.output[0] if node.op_type == "Gemm" else self._others(node, bias)
                if before in products:
                    self._add(found, state, bias.removesuffix(".bias"), products.pop(before))
        for node in products.values():
            self._add(found, state, _scope(node), node)
        return found

    def _others(self, node: Any, bias: str) -> str:
        others = [name for name in node.input if name != bias]
        return others[0] if node.op_type == "Add" and len(others) == 1 else ""

    def _add(self, found: dict[str, Tensor], state: dict[str, Tensor], layer: str, product: Any) -> None:
        """Add the weight that a product multiplies with to those found, unless it has its name already."""
        name = f"{layer}.weight"
        weight = None if not layer or name in state or name in found else self.value(product.input[1])
        if weight is not None and weight.ndim == 2:
            turned = any(each.name == "transB" and each.i for each in product.attribute)
            found[name] = (weight if turned else weight.T).contiguous()

    def tokens(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return tokens and positions that lie about anonymously, under the names of the layout."""
        found: dict[str, Tensor] = {}
        for node in self._nodes:
            kernel = node.input[1] if node.op_type == "Conv" else ""
            layout = re.fullmatch(r"(.*?)(embeddings\.patch_embeddings\.|patch_embed\.).*weight", kernel)
            if layout is None:
                continue
            inside, *names = _LAYOUTS[layout[2]]
            cls, registers, positions = (f"{layout[1]}{inside}{name}" for name in names)
            joined = self._next(node.output[0], "Concat")
            added = self._next(joined.output[0] if joined else node.output[0], "Add")
            joined = joined or (self._next(added.output[0], "Concat") if added else None)
            tokens = [self._constant(name) for name in joined.input[:-1]] if joined else []
            found |= {name: x[:1] for name, x in zip((cls, registers), tokens, strict=False) if x is not None}
            grids = [
                grid for name in (added.input if added else ()) if (grid := self._grid(name)) is not None
            ]
            if len(grids) == 1:
                found[positions] = grids[0]
        return {name: value for name, value in found.items() if name not in state}

    def _next(self, name: str, kind: str) -> Any:
        """Return the node of a kind that a value reaches unchanged."""
        for _ in range(len(self._nodes)):
            takers = self._takers[name]
            wanted = [node for node in takers if node.op_type == kind]
            same = [node for node in takers if node.op_type in _SAME and node.input[0] == name]
            if wanted or not same:
                return wanted[0] if len(wanted) == 1 else None
            name = same[0].output[0]
        return None

    def _constant(self, name: str) -> Tensor | None:
        """Return the constant that a value comes from unchanged, or None."""
        for _ in range(len(self._nodes)):
            value, node = self.value(name), self._makers.get(name)
            if value is not None or node is None or node.op_type not in _SAME:
                return value
            name = node.input[0]
        return None

    def _grid(self, name: str) -> Tensor | None:
        """Return positions [1, N, D]: one constant, or that of the class token before that of the grid."""
        node = self._makers.get(name)
        if node is None or node.op_type != "Concat":
            return self._constant(name)
        first, *rest = (self._constant(each) for each in node.input)
        if first is None or len(rest) != 1 or rest[0] is None:
            return None
        grid, width = rest[0], first.shape[-1]
        if grid.ndim == 4:  # rows and columns, before or behind the width
            grid = grid.flatten(2).mT if grid.shape[1] == width else grid.flatten(1, 2)
        return torch.cat([first.reshape(1, -1, width), grid.reshape(1, -1, width)], dim=1)


def _scope(node: Any) -> str:
    """Return the module that a node belongs to, as the exporter noted it; "" when it did not."""
    noted = {entry.key: entry.value for entry in node.metadata_props}.get("pkg.torch.onnx.name_scopes")
    if noted is not None:
        try:
            return str(ast.literal_eval(noted)[-2])
        except (ValueError, SyntaxError, IndexError, TypeError, RecursionError, MemoryError):
            return ""
    parts = node.output[0].strip("/").split("/")[:-1]
    follow = zip(parts, [*parts[1:], ""], strict=True)
    return ".".join(part for part, behind in follow if not behind.startswith(f"{part}."))


class _Files:
    """The bytes of tensors: in the file itself, or in others of its folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._left: dict[Path, int] = {}

    def tensor(self, saved: Any) -> Tensor | None:
        """Return a tensor of floats, or None for another type.

        Raises:
            ModelError: it claims another number of bytes than it has, or a size below zero.
        """
        kind, shape = _TYPES.get(saved.data_type), tuple(saved.dims)
        if kind is None:
            return None
        if min(shape, default=0) < 0:
            raise ModelError(
                f"{saved.name} of {self._path} claims the shape {shape}, below zero; take an undamaged copy"
            )
        needed = math.prod(shape) * kind.itemsize
        if saved.data_location == 1:
            content = self._outside(saved, needed)
        elif saved.HasField("raw_data"):
            content = bytearray(saved.raw_data)
        else:
            from onnx.numpy_helper import to_array

            given = len(saved.float_data) + len(saved.double_data) + len(saved.int32_data)
            if given != math.prod(shape):
                raise self._damaged(saved.name, given * kind.itemsize, needed)
            return torch.tensor(to_array(saved).astype("float32"))
        if len(content) != needed:
            raise self._damaged(saved.name, len(content), needed)
        return (
            torch.frombuffer(content, dtype=kind).reshape(shape)
            if content
            else torch.zeros(shape, dtype=kind)
        )

    def _damaged(self, name: str, held: int, claimed: int) -> ModelError:
        return ModelError(
            f"{name} of {self._path} holds {held:,} bytes and claims {claimed:,}; take an undamaged copy"
        )

    def _outside(self, saved: Any, needed: int) -> bytearray:
        said = {entry.key: entry.value for entry in saved.external_data}
        file = self._beside(said.get("location", ""))
        if file is None:
            raise ModelError(
                f"{saved.name} of {self._path} lies in {said.get('location')!r}, which is no file of the "
                "same folder; put both files into one folder"
            )
        size, offset = file.stat().st_size, said.get("offset", "0")
        if not offset.isdecimal() or len(offset) > len(str(size)) or int(offset) > size:
            raise ModelError(
                f"{saved.name} of {self._path} begins at byte {offset!r} of {file.name}, which has {size:,}; "
                "take an undamaged copy"
            )
        left = min(self._left.setdefault(file, size), size - int(offset))
        if left < needed:
            raise self._damaged(saved.name, left, needed)
        self._left[file] -= needed
        with file.open("rb") as opened:
            opened.seek(int(offset))
            return bytearray(opened.read(needed))

    def _beside(self, location: str) -> Path | None:
        """Return the regular file of the model's folder that is called so, or None.

        The folder is the one that was named, or where a link to the model leads. The hub's cache links every
        name of a snapshot to a file in the ``blobs`` of the same repository; no other link leads out.
        """
        inside = Path(location)
        if inside.is_absolute() or ".." in inside.parts:
            return None
        for folder in (Path(os.path.abspath(self._path)).parent, self._path.resolve().parent):
            file = (folder / inside).resolve()
            homes = [folder.resolve(), *(home.resolve() / "blobs" for home in _repositories(folder))]
            if file.is_file() and any(file.is_relative_to(home) for home in homes):
                return file
        return None


def _repositories(folder: Path) -> list[Path]:
    """Return the folder of the hub's cache of which a folder is a snapshot, in a list, or none."""
    snapshots = (each for each in (folder, *folder.parents) if each.parent.name == "snapshots")
    return [each.parent.parent for each in snapshots if each.parent.parent.name.startswith("models--")]
