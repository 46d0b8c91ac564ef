"""The answer to a page that fetches a picture: to the visitor whose it is, and to nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ttr.apps.image.handed_out import PLACE, HandedOut

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

PICTURES = f"/{PLACE}/"


def answer_pictures(app: FastAPI, handed_out: HandedOut) -> None:
    """Let an application answer for pictures that its pages were handed out."""
    from starlette.responses import PlainTextResponse
    from starlette.responses import Response as Answer

    def picture(request: Request) -> Response:
        asked = request.path_params
        found = handed_out.png(request.state.visitor.name, asked["handed"], asked["name"])
        if found is None:
            return PlainTextResponse("This picture is not here, or no more.", 404)
        return Answer(found, media_type="image/png")

    app.add_route(f"{PICTURES}{{handed}}/{{name}}", picture)
