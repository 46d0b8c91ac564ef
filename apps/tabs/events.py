"""How the page's events run: which wait for each other, which answer at once, and what a refusal becomes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import gradio as gr

from ttr.apps.html import panels
from ttr.apps.image.readers import PLACES
from ttr.apps.image.stack import OpenStack
from ttr.errors import TTRError

T = TypeVar("T")

#: Model passes of all sections wait in one queue.
ALONE: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}
#: What a visitor gave is decoded before that, beside the passes: a file that takes its time holds up nobody.
READING: dict[str, Any] = {
    "concurrency_id": "reading",
    "concurrency_limit": PLACES,
    "show_progress": "hidden",
    "api_visibility": "private",
}
#: What is asked while the same is under way is done after it; else the library drops it, and what the visitor
#: chose last is never shown.
IN_A_ROW: dict[str, Any] = {"trigger_mode": "multiple"}
#: What makes room for a pass waits for its turn too, unseen: it must not come after what it made room for.
IN_ORDER: dict[str, Any] = {**ALONE, "show_progress": "hidden"}
#: What only looks another way at what was computed answers at once.
AT_ONCE: dict[str, Any] = {
    "queue": False,
    "show_progress": "hidden",
    "trigger_mode": "always_last",
    "api_visibility": "private",
}
#: What was set before another model came may be beyond what that one has. The page's own functions say what
#: becomes of it; the library would refuse it by choices that its visitor does not see yet.
AS_SENT: dict[str, Any] = {"preprocess": False}
#: What runs in the browser alone.
IN_BROWSER: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}


class Read(NamedTuple):
    """What was read: an image, its refusal, or None where nothing was given."""

    found: Any


@dataclass
class Turn:
    """How often one visitor gave something, or took it away; the last counts, whichever is done last.

    What is asked at once is not always done in the order in which it was asked, so that each says when that
    was, in the page's milliseconds.
    """

    last: int = 0
    given: float = 0.0
    found: dict[int, Read] = field(default_factory=dict)
    stack: OpenStack | None = None

    def passes(self) -> int:
        """What was begun before has had its turn: its answer is shown no more. Return the new turn.

        A stack that was open is let go.
        """
        self.last += 1
        stack, self.stack = self.stack, None
        if stack is not None:
            stack.close()
        return self.last

    def empties(self, asked: float) -> bool:
        """Pass the turn, unless something was given since: then the emptying comes too late."""
        return self._passes(asked, too_late=asked <= self.given)

    def reads(self, work: Callable[[], Any], asked: float) -> None:
        """Pass the turn and keep what :func:`tried` finds, unless something was given since.

        The emptying of the same moment is nothing that was given since.
        """
        if self._passes(asked, too_late=asked < self.given):
            mine = self.last
            self.found[mine] = Read(tried(work))

    def takes(self) -> Read | None:
        """Return what was read in this turn, once; None where it is not there, as of all former ones."""
        found, self.found = self.found, {}
        return found.get(self.last)

    def _passes(self, asked: float, *, too_late: bool) -> bool:
        if not too_late:
            self.given = asked
            self.passes()
        return not too_late


def in_this_turn(work: Callable[[], list[Any]], turn: Turn, outputs: int) -> list[Any]:
    """Return what the work gives, or nothing new where the turn passed meanwhile."""
    mine = turn.last
    found = work()
    return found if turn.last == mine else [gr.skip() for _ in range(outputs)]


def turned(work: Callable[..., list[Any]], outputs: int, message: int = 1) -> Callable[..., list[Any]]:
    """Return guarded work whose first value is the turn: what passed meanwhile shows nothing."""

    def done_in_turn(turn: Turn, *values: Any) -> list[Any]:
        return in_this_turn(lambda: guarded(lambda: work(*values), outputs, message), turn, outputs)

    return done_in_turn


@dataclass(frozen=True)
class Emptied:
    """Widgets that show something of an image, and their values when there is none."""

    outputs: list[Any]
    values: list[Any]


def guarded(work: Callable[[], list[Any]], outputs: int, message: int = 1) -> list[Any]:
    """Do the work; a refusal becomes one sentence in output ``message``, and the others stay as they were."""
    found = tried(work)
    if not isinstance(found, TTRError):
        return found
    kept: list[Any] = [gr.skip() for _ in range(outputs)]
    kept[message] = panels.message(str(found))
    return kept


def tried(work: Callable[[], T]) -> T | TTRError:
    """Return what the work gives, or its refusal as a value.

    What was not foreseen is named by its kind alone: its text may hold a path.
    """
    try:
        return work()
    except TTRError as error:
        return error
    except Exception as error:
        logging.getLogger("ttr.apps").debug("an event failed", exc_info=True)
        return TTRError(
            f"this did not work ({type(error).__name__}); the page itself is well, try another image"
        )


def done(found: T | TTRError) -> T:
    """Return what was read, or raise its refusal."""
    if isinstance(found, TTRError):
        raise found
    return found
