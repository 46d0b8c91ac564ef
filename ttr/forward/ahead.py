"""Images decoded ahead in processes of their own, and brought to the device while it computes.

A process decodes a whole batch at a time, in the order asked for, with nothing of the model in it. On CUDA a
batch comes in pinned memory and is copied on a stream of its own while the one before it is computed.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pickle import PicklingError
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ttr.errors import ImageError, ModelError, TTRError


class Decoded(NamedTuple):
    """A batch as it was asked for.

    Attributes:
        images: the model's inputs [b, C, H, W], one row an item; zeros where it could not be read.
        errors: {place in the batch: reason} of those.
    """

    images: Tensor
    errors: dict[int, str]


@dataclass(frozen=True)
class Decoding(Dataset[Any]):
    """What a worker does with a batch of items; whatever it holds is sent to each worker.

    Attributes:
        read: item -> input [C, H, W]; raises ImageError where it cannot be read.
    """

    read: Callable[[Any], Tensor]

    def __getitem__(self, items: Sequence[Any]) -> Decoded | TTRError:
        images, errors = torch.empty(0), {}
        try:
            for place, item in enumerate(items):
                try:
                    read = self.read(item)
                except ImageError as error:
                    errors[place] = str(error)
                    continue
                if not images.numel():
                    images = torch.empty((len(items), *read.shape), dtype=read.dtype)
                _check_alike(read, images[0])
                images[place] = read
        except TTRError as error:  # an exception would come back as a text with this process's traceback
            return error
        if images.numel():
            images[list(errors)] = 0
        return Decoded(images, errors)


def _check_alike(read: Tensor, first: Tensor) -> None:
    if (read.shape, read.dtype) != (first.shape, first.dtype):
        raise ModelError(
            f"preprocessing made {tuple(read.shape)} {read.dtype} of one image and {tuple(first.shape)} "
            f"{first.dtype} of another in its batch; needed the same size and type for every image"
        )


def decoded_ahead(
    requests: Iterable[Sequence[Any]], read: Callable[[Any], Tensor], workers: int, device: torch.device
) -> Iterator[Decoded]:
    """Yield a batch a request, on ``device``, in order; at most two a worker are decoded ahead.

    Args:
        requests: the items of each batch.
        read: item -> input [C, H, W]; raises ImageError where it cannot be read.
        workers: processes that read and decode.
        device: where the batches go.

    Raises:
        ModelError: ``read`` cannot be sent to another process, where the system makes these from nothing.
        TTRError: what ``read`` raises besides ImageError; the inputs of a batch differ in size or type; or a
            process was killed from outside.
    """
    loader: DataLoader[Any]
    with warnings.catch_warnings():  # as many workers as were asked for, and the refusal below is ours
        warnings.filterwarnings("ignore", message="This DataLoader will create|Got pickle error")
        try:
            loader = DataLoader(
                Decoding(read),
                batch_size=None,
                sampler=_Requests(requests),
                num_workers=workers,
                pin_memory=device.type == "cuda",
                generator=torch.Generator(),  # or the loader draws from the caller's random numbers
            )
            # The processes begin here, before the caller starts threads that a fork would leave behind.
            decoded = iter(loader)
        except (PicklingError, AttributeError, TypeError) as error:
            raise ModelError(
                f"the preprocessing of this model cannot be sent to another process ({error}); give one that "
                "can be pickled: a class or a function of a module, not one that is made inside another"
            ) from error
    return _on_device(_without_traceback(decoded), device)


class _Requests:
    """A sampler that is asked for batches one by one."""

    def __init__(self, requests: Iterable[Sequence[Any]]) -> None:
        self.requests = requests

    def __iter__(self) -> Iterator[Sequence[Any]]:
        return iter(self.requests)


def _without_traceback(decoded: Any) -> Iterator[Decoded]:
    try:
        for found in decoded:
            if isinstance(found, TTRError):
                raise found
            yield found
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise TTRError(
            "a process that decodes images was killed from outside, perhaps for lack of memory; run again "
            "with fewer --workers or a smaller --batch-size (in a container: with more shared memory)"
        ) from error
    finally:
        del decoded  # which ends the processes


def _on_device(batches: Iterator[Decoded], device: torch.device) -> Iterator[Decoded]:
    """Yield batches on a device; on CUDA the next one's copy begins before this one is given."""
    if device.type != "cuda":
        yield from (batch._replace(images=batch.images.to(device)) for batch in batches)
        return
    copying = torch.cuda.Stream(device)
    ahead: deque[Callable[[], Decoded]] = deque()
    for batch in batches:
        with torch.cuda.stream(copying):
            images = batch.images.to(device, non_blocking=True)
        ahead.append(partial(_arrived, batch._replace(images=images), copying.record_event(), device))
        if len(ahead) > 1:
            yield ahead.popleft()()
    while ahead:
        yield ahead.popleft()()


def _arrived(batch: Decoded, copied: torch.cuda.Event, device: torch.device) -> Decoded:
    """Return a batch that the device may compute with: its stream waits for the copy, we do not."""
    computing = torch.cuda.current_stream(device)
    computing.wait_event(copied)
    batch.images.record_stream(computing)
    return batch
