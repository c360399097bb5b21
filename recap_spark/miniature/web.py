"""A folder of pictures → a small web, with a route for each way that the real one fails"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from aiohttp import web

from recap_spark.miniature import hostile

ASKED: web.AppKey[Counter[str]] = web.AppKey("asked", Counter)
FOLDER: web.AppKey[Path] = web.AppKey("folder", Path)

_TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".bmp": "image/bmp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".avif": "image/avif",
}


def application(folder: Path) -> web.Application:
    app = web.Application(middlewares=[_count])
    app[ASKED], app[FOLDER] = Counter(), folder
    app.router.add_get("/_log", _log)
    app.router.add_get("/images/{name}", _picture)
    for route, code in (("missing", 404), ("gone", 410), ("forbidden", 403), ("error", 503)):
        app.router.add_get(f"/{route}/{{name}}", _refusal(code))
    for route, code in (("throttled", 429), ("flaky", 503)):
        app.router.add_get(f"/{route}/{{name}}", _second_time_lucky(code))
    app.router.add_get("/webpage/{name}", _webpage)
    app.router.add_get("/mislabelled/{name}", _mislabelled)
    app.router.add_get("/swapped/{name}", _swapped)
    app.router.add_get("/robots/{name}", _reserved("X-Robots-Tag", "noai"))
    app.router.add_get("/reserved/{name}", _reserved("TDM-Reservation", "1"))
    app.router.add_get("/redirect/{count}/{name}", _redirect)
    app.router.add_get("/loop/{name}", _loop)
    app.router.add_get("/inward/{name}", _inward)
    app.router.add_get("/away/{name}", _away)
    for route, handler in hostile.ROUTES.items():
        app.router.add_get(f"/{route}/{{name}}", _hostile(handler))
    return app


@web.middleware
async def _count(request: web.Request, handler: hostile.Handler) -> web.StreamResponse:
    if request.path != "/_log":
        request.app[ASKED][request.path] += 1
    return await handler(request)


async def _log(request: web.Request) -> web.Response:
    return web.json_response(request.app[ASKED])


async def _picture(request: web.Request) -> web.Response:
    return web.Response(body=_bytes(request), content_type=_type(request))


def _refusal(code: int) -> hostile.Handler:
    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=code, text="no")

    return refuse


def _second_time_lucky(code: int) -> hostile.Handler:
    async def refuse_once(request: web.Request) -> web.Response:
        if request.app[ASKED][request.path] > 1:
            return await _picture(request)
        headers = {"Retry-After": "1"} if code == 429 else {}
        return web.Response(status=code, headers=headers, text="later")

    return refuse_once


async def _webpage(request: web.Request) -> web.Response:
    return web.Response(text="<!doctype html><p>This picture has moved.", content_type="text/html")


async def _mislabelled(request: web.Request) -> web.Response:
    return web.Response(body=_bytes(request), content_type="text/plain")


async def _swapped(request: web.Request) -> web.Response:
    wanted = _path(request)
    names = sorted(path.name for path in wanted.parent.iterdir())
    other = names[(names.index(wanted.name) + 1) % len(names)]
    return web.Response(body=(wanted.parent / other).read_bytes(), content_type=_type(request))


def _reserved(header: str, value: str) -> hostile.Handler:
    async def reserve(request: web.Request) -> web.Response:
        return web.Response(body=_bytes(request), content_type=_type(request), headers={header: value})

    return reserve


async def _redirect(request: web.Request) -> web.Response:
    count, name = int(request.match_info["count"]), request.match_info["name"]
    raise web.HTTPFound(f"/redirect/{count - 1}/{name}" if count > 1 else f"/images/{name}")


async def _loop(request: web.Request) -> web.Response:
    raise web.HTTPFound(request.path)


async def _inward(request: web.Request) -> web.Response:
    raise web.HTTPFound("http://169.254.169.254/latest/meta-data/")


async def _away(request: web.Request) -> web.Response:
    # Not HTTPFound, which would tidy the target up.
    return web.Response(status=302, headers={"Location": request.query["to"]})


def _hostile(handler: hostile.HostileHandler) -> hostile.Handler:
    async def misbehave(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request, _bytes(request))
        except ConnectionError:  # the client has had enough
            return web.Response()

    return misbehave


def _path(request: web.Request) -> Path:
    path = request.app[FOLDER] / "images" / request.match_info["name"]
    if not path.is_file() or path.name != request.match_info["name"]:
        raise web.HTTPNotFound
    return path


def _bytes(request: web.Request) -> bytes:
    return _path(request).read_bytes()


def _type(request: web.Request) -> str:
    return _TYPES.get(_path(request).suffix.lower(), "application/octet-stream")
