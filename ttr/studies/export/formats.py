"""The files that a traced model is written to and read from again: ONNX, and PyTorch's own ``.pt2`` archive.

Both hold one graph with the input ``images`` and the outputs ``embedding`` and ``patches``, and both carry a
JSON text: under ``ttr`` in the metadata of the ONNX model, as the extra file ``ttr.json`` of the archive.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import torch
from torch import Tensor

from ttr.errors import ModelError

Format = Literal["onnx", "pt2"]
Outputs = Sequence[Tensor]
Write = Callable[[Any, Path, str], None]
Read = Callable[[Path], Callable[[Tensor], Outputs]]

INPUT, OUTPUTS = "images", ("embedding", "patches")
METADATA = "ttr"
#: With these the exporter colours its words on a terminal.
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
#: A protobuf message ends at 2 GiB, and the exporter moves weights into a second file from here on.
ONNX_BYTES = 1536 * 2**20


def _write_onnx(program: Any, file: Path, metadata: str) -> None:
    try:
        made = torch.onnx.export(
            program,
            dynamo=True,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_shapes={INPUT: {0: "batch"}},
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        reason = " ".join(COLOURS.sub("", str(error)).split())[:200]
        raise ModelError(f"the model has no ONNX form ({reason}); choose format pt2") from error
    assert made is not None
    made.model.metadata_props[METADATA] = metadata
    made.save(file, external_data=False)


def _read_onnx(file: Path) -> Callable[[Tensor], Outputs]:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda images: [torch.from_numpy(x) for x in session.run(list(OUTPUTS), {INPUT: images.numpy()})]


def _write_pt2(program: Any, file: Path, metadata: str) -> None:
    with file.open("wb") as opened:
        stream = Forgiving(opened)
        torch.export.save(program, stream, extra_files={f"{METADATA}.json": metadata})  # type: ignore[arg-type]
    if stream.fault is not None:
        raise stream.fault


class Forgiving(io.RawIOBase):
    """A file that keeps the first fault of writing to itself: PyTorch's archives end the process at one.

    Attributes:
        fault: what went wrong; nothing is written from then on.
    """

    def __init__(self, file: IO[bytes]) -> None:
        """Write to ``file``, which stays open."""
        self._file = file
        self.fault: OSError | None = None

    def write(self, content: Any) -> int:
        """Write, or do as if."""
        try:
            if self.fault is None:
                self._file.write(content)
                self._file.flush()
        except OSError as error:
            self.fault = error
        return len(content)

    def seek(self, place: int, whence: int = 0) -> int:
        """Go to a place."""
        return self._file.seek(place, whence)

    def tell(self) -> int:
        """Return the place."""
        return self._file.tell()

    def writable(self) -> bool:
        """Return True."""
        return True


def _read_pt2(file: Path) -> Callable[[Tensor], Outputs]:
    model = torch.export.load(file).module()
    return torch.no_grad()(model)


FORMATS: dict[str, tuple[Write, Read]] = {
    "onnx": (_write_onnx, _read_onnx),
    "pt2": (_write_pt2, _read_pt2),
}


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporters' notes on deprecations and on constants that they did not fold."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
