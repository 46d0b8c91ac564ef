"""What the page's script may ask of its functions: one that is there, with as many values as it takes."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ttr.apps.service.messages import CANCEL, JOIN, PREDICT, RESET, refuse, whole_body, with_json

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Lists within lists, or objects, of anything that the page sends.
DEEPEST = 24
#: Requests that wait for the model at once.
WAITING = 16
FULL = f"{WAITING} requests are waiting already, as many as may; try again in a moment."
OUTDATED = "reload this page and try again"

#: What a widget's value may be, by the library's name of the widget; of others the library takes care.
KINDS: dict[str, tuple[type, ...]] = {
    "checkbox": (bool,),
    "dropdown": (str, type(None)),
    "number": (int, float, type(None)),
    "radio": (str,),
    "slider": (int, float),
    "textbox": (str,),
}

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class Event(BaseModel):
    """What the page's script sends for an event; other fields of the library are not handed on."""

    model_config = ConfigDict(strict=True, extra="ignore")
    session_hash: Name
    fn_index: int
    data: Annotated[list[Any], Field(max_length=100)]
    trigger_id: int | None = None
    event_data: Any = None

    def plain(self) -> dict[str, Any]:
        """Return its fields; what came with the event is an object, if only an empty one."""
        came = self.event_data if isinstance(self.event_data, dict) else {}
        return {**self.model_dump(), "event_data": came}


class Cancelled(BaseModel):
    """What the page's script sends to stop an event."""

    model_config = ConfigDict(strict=True, extra="ignore")
    session_hash: Name
    fn_index: int
    event_id: Name


class Reset(BaseModel):
    """What the page's script sends once it has stopped an event."""

    model_config = ConfigDict(strict=True, extra="ignore")
    event_id: Name


BODIES: dict[str, type[BaseModel]] = {JOIN: Event, PREDICT: Event, CANCEL: Cancelled, RESET: Reset}


class Events:
    """Refuse with 400 what no function of the page could answer; say it where the queue is full.

    Args:
        app: what answers.
        functions: the page's functions by number, as the widget library keeps them.
    """

    def __init__(self, app: ASGIApp, functions: dict[int, Any]) -> None:
        self.app, self.functions = app, functions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        posted = scope["type"] == "http" and scope["method"] == "POST"
        if not posted or scope["path"] not in BODIES:
            await self.app(scope, receive, send)
            return
        body = await whole_body(receive)
        if body is None:
            return
        try:
            asked = self.checked(body, scope["path"])
            if visitor := scope.get("state", {}).get("visitor"):
                asked = visitor.rewritten(asked)
        except ValueError as error:
            await refuse(scope, receive, send, 400, f"{error}; {OUTDATED}.")
            return
        said = _said(scope, receive, send)
        await self.app(*with_json(scope, receive, json.dumps(asked).encode()), said)

    def checked(self, body: bytes, path: str) -> dict[str, Any]:
        """Return what is asked with nothing but what was checked; ValueError says what is wrong with it."""
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            raise ValueError("This request is no JSON") from None
        if not _plain(asked):
            raise ValueError(
                "This request holds lists in lists beyond reason, numbers without end, or halves of letters"
            )
        try:
            event = BODIES[path].model_validate(asked)
        except ValidationError as error:
            fields = sorted({str(each["loc"][0]) if each["loc"] else "all" for each in error.errors()})
            raise ValueError(f"This request is not one of this page ({', '.join(fields)})") from None
        if isinstance(event, Event | Cancelled):
            self._check_function(event, path)
        return event.plain() if isinstance(event, Event) else event.model_dump()

    def _check_function(self, event: Event | Cancelled, path: str) -> None:
        """Raise ValueError for a function that is none of the server, or takes other values."""
        function = self.functions.get(event.fn_index)
        if function is None or function.fn is None:
            raise ValueError("This page has no such function")
        if isinstance(event, Event):
            if bool(function.queue) != (path == JOIN):
                raise ValueError("This page has no such function")
            _check_values(event.data, function.inputs)


def _check_values(values: list[Any], widgets: list[Any]) -> None:
    if len(values) != len(widgets):
        raise ValueError(f"This function takes {len(widgets)} values and {len(values)} came")
    for value, widget in zip(values, widgets, strict=True):
        kinds = KINDS.get(widget.get_block_name())
        if kinds and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
            raise ValueError(f"This is no value of a {widget.get_block_name()}")


def _plain(value: Any) -> bool:
    """Return whether JSON is no deeper than ``DEEPEST``, its numbers finite, its text sound."""
    level = [value]
    for _ in range(DEEPEST):
        if not all(map(_sound, level)):
            return False
        within = [
            [*each, *each.values()] if isinstance(each, dict) else each
            for each in level
            if isinstance(each, dict | list)
        ]
        level = [child for each in within for child in each]
        if not level:
            return True
    return False


def _sound(value: Any) -> bool:
    """Return whether a number is finite, or a text can be sent on: JSON may hold half of a pair."""
    if isinstance(value, str):
        return value.isascii() or not any("\ud800" <= each <= "\udfff" for each in value)
    return not isinstance(value, float) or math.isfinite(value)


def _said(scope: Scope, receive: Receive, send: Send) -> Send:
    """Return ``send`` that says in our words that the queue is full, and that a widget refused a value.

    The page shows them as they are. What failed in a function of the page stays a failure.
    """
    failed: list[Message] = []

    async def said(message: Message) -> None:
        starts = message["type"] == "http.response.start"
        if not (starts and message["status"] in (500, 503)) and not failed:
            await send(message)
            return
        failed.append(message)
        if starts or message.get("more_body", False):
            return
        if failed[0]["status"] == 503:
            await refuse(scope, receive, send, 429, FULL, {"Retry-After": "5"})
        elif _refused_value(b"".join(each.get("body", b"") for each in failed)):
            await refuse(scope, receive, send, 400, f"A widget has no such value; {OUTDATED}.")
        else:
            for each in failed:
                await send(each)

    return said


def _refused_value(body: bytes) -> bool:
    """Return whether the library says what was wrong with a value: of its own failures it says nothing."""
    try:
        return isinstance(json.loads(body)["error"], str)
    except (ValueError, KeyError, TypeError):
        return False
