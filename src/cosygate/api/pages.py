"""The page at `/`, the API's description at `/docs`, a live session's audience at `/captions`, the operator's page at
`/admin`, and the files they load: all from the wheel, nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

_FOLDER = Path(__file__).parent / "page"
_REVALIDATE = {"Cache-Control": "no-cache"}  # a new release shows at once; unchanged files answer 304


class _Files(StaticFiles):
    def file_response(self, *args: object, **kwargs: object) -> Response:
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]  # passed on as they came
        response.headers.update(_REVALIDATE)
        return response


def files() -> StaticFiles:
    return _Files(directory=_FOLDER)


def router() -> APIRouter:
    routes = APIRouter(include_in_schema=False)

    @routes.get("/")
    async def page() -> Response:
        return FileResponse(_FOLDER / "index.html", headers=_REVALIDATE)

    @routes.get("/docs")
    async def docs() -> Response:
        return FileResponse(_FOLDER / "docs.html", headers=_REVALIDATE)

    @routes.get("/captions")
    async def captions() -> Response:
        return FileResponse(_FOLDER / "captions.html", headers=_REVALIDATE)

    @routes.get("/admin")
    async def admin() -> Response:
        return FileResponse(_FOLDER / "admin.html", headers=_REVALIDATE)

    @routes.get("/favicon.ico")
    async def favicon() -> Response:
        return FileResponse(_FOLDER / "favicon.svg", headers=_REVALIDATE, media_type="image/svg+xml")

    return routes
