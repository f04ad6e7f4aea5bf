"""The page's web server: addresses to pages, CSV and documents; nothing else, and only to names of this machine.

In: a root. Out: an ASGI application, and a socket it listens on. Answers GET alone, refuses a `Host` it does not know
(a page elsewhere may have its own name point here), and sends a Content-Security-Policy under which nothing but this
server's own style sheet and script is loaded, whatever a document holds. A page that cannot be made says why.
"""

import socket
import sys
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from marco_data.dashboard import documents, html, pages, pages_runs, pages_spread
from marco_data.dashboard.data import BadRequest, Root, View
from marco_data.errors import MarcoError, RecipeError

PAGES: dict[str, pages.Page] = {
    "tokens": pages.Page("Tokens", pages.tokens, pages.tokens_fields),
    "stages": pages.Page("Stages", pages.stages),
    "mixture": pages.Page("Mixture", pages.mixture),
    "funnel": pages.Page("Funnel", pages.funnel, pages.funnel_fields),
    "language": pages.Page("Language", pages.language, pages.language_fields),
    "quality": pages.Page("Quality", pages_spread.quality, pages_spread.quality_fields),
    "identification": pages.Page("Language ID", pages_spread.identification, pages_spread.identification_fields),
    "duplicates": pages.Page("Duplicates", pages_spread.duplicates, pages_spread.identification_fields),
    "generated": pages.Page("Generated", pages_spread.generated, pages_spread.generated_fields),
    "fertility": pages.Page("Fertility", pages.fertility),
    "progress": pages.Page("Progress", pages_runs.progress),
    "training": pages.Page("Training", pages_runs.training, pages_runs.training_fields),
}
NEEDS_NO_BUILD = ("progress", "training")

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
LOOPBACK = ("127.0.0.1", "localhost")
MOST_PORTS = 20
MOST_SKIPPED = 10_000
ASSETS = {"style.css": "text/css", "live.js": "text/javascript"}


def application(root: Root, hosts: Sequence[str] = LOOPBACK) -> Starlette:
    """The site of one root."""

    def answered(make: Callable[[Request, View], Response]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            return await run_in_threadpool(_answer, root, make, request)

        return endpoint

    def page(request: Request, view: View) -> Response:
        name = request.path_params.get("page", "tokens")
        if name not in PAGES:
            raise HTTPException(404, f"there is no page `{name}`")
        if view.ledger is None and name not in NEEDS_NO_BUILD:
            return _html(html.message(view, "Nothing to show yet", view.problem, view.hint))
        return _html(html.page(view, name, PAGES, root))

    def csv(request: Request, view: View) -> Response:
        name = request.path_params["page"]
        if name not in PAGES or (view.ledger is None and name not in NEEDS_NO_BUILD):
            raise HTTPException(404, view.problem or f"there is no page `{name}`")
        for panel in PAGES[name].panels(root, view):
            if panel.name == request.path_params["panel"]:
                file = f"{view.family}-{view.stage}-{name}-{panel.name}.csv".replace("/", "-").replace('"', "")
                disposition = {
                    "Content-Disposition": f'attachment; filename="{file.encode("ascii", "ignore").decode()}"'
                }
                return Response(panel.to_csv(), media_type="text/csv", headers={**HEADERS, **disposition})
        raise HTTPException(404, "there is no such table")

    def listed(request: Request, view: View) -> Response:
        if view.lookup is None:
            return _html(html.message(view, "No documents yet", view.problem or pages_spread.NOT_YET, view.hint))
        wanted = documents.Filter(*(view.asked(k) for k in ("language", "source", "part", "verdict", "reason")))
        skip = view.asked("skip") or "0"
        if not skip.isdecimal() or int(skip) > MOST_SKIPPED:
            raise BadRequest(f"`skip` is a number up to {MOST_SKIPPED:,}; narrow the filter to see others")
        return _html(html.listed(view, PAGES, wanted, int(skip)))

    def document(request: Request, view: View) -> Response:
        if view.lookup is None:
            return _html(html.message(view, "No documents yet", view.problem or pages_spread.NOT_YET, view.hint))
        term = view.asked("id") or view.asked("q").strip()
        return _html(*html.document(view, PAGES, term))

    def state(request: Request, view: View) -> Response:
        running = bool(view.ledger and view.ledger.running)
        return JSONResponse({"state": view.digest, "running": running}, headers=HEADERS)

    async def asset(request: Request) -> Response:
        name = request.url.path.strip("/")
        return Response(read_asset(name), media_type=ASSETS[name], headers=HEADERS)

    routes = [
        Route("/", answered(page)),
        *(Route(f"/{name}", asset) for name in ASSETS),
        Route("/favicon.ico", lambda request: Response(status_code=204)),
        Route("/state", answered(state)),
        Route("/documents", answered(listed)),
        Route("/document", answered(document)),
        Route("/search", answered(document)),
        Route("/csv/{page}/{panel}", answered(csv)),
        Route("/{page}", answered(page)),
    ]
    trusted = Middleware(TrustedHostMiddleware, allowed_hosts=[*hosts], www_redirect=False)
    return Starlette(routes=routes, middleware=[trusted], exception_handlers={404: _nowhere})


def _answer(root: Root, make: Callable[[Request, View], Response], request: Request) -> Response:
    """A response, whatever happens; a mistake in this program is named on the page and told on stderr."""
    try:
        view = root.view(dict(request.query_params))
    except BadRequest as error:
        return _html(html.message(root.view({}), "That address means nothing here", str(error)), 400)
    try:
        return make(request, view)
    except BadRequest as error:
        return _html(html.message(view, "That address means nothing here", str(error)), 400)
    except HTTPException as error:
        return _html(html.message(view, "Not found", str(error.detail)), error.status_code)
    except RecipeError as error:
        return _html(html.message(view, "That cannot be shown", error.message, error.hint or ""), 400)
    except (MarcoError, OSError) as error:
        hint = "the same `build-stage` finishes or repairs a half-written or damaged root"
        return _html(html.message(view, "That cannot be read", str(error), hint), 500)
    except Exception as error:
        print(f"dashboard: {request.url.path}: {type(error).__name__}: {error}", file=sys.stderr)
        what = f"{type(error).__name__}: {error}"
        return _html(html.message(view, "That cannot be shown", what, "please report it"), 500)


def _nowhere(request: Request, error: Exception) -> Response:
    return PlainTextResponse("there is no such page\n", 404, headers=HEADERS)


def _html(text: str, status: int = 200) -> Response:
    return Response(text, status, HEADERS, "text/html")


def read_asset(name: str) -> str:
    return resources.files("marco_data.dashboard").joinpath(name).read_text("utf-8")


def listening(host: str, port: int, *, exactly: bool) -> socket.socket:
    """A socket at a port, or at the next free one. Raises RecipeError where it has to be `exactly` this one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for number in range(port, port + (1 if exactly or not port else MOST_PORTS)):
        opened = socket.socket(family, socket.SOCK_STREAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind((host, number))
            opened.listen()  # now: whoever reads the address may ask before the server has begun to answer
        except OSError as error:
            opened.close()
            if isinstance(error, PermissionError | socket.gaierror):
                raise RecipeError(f"cannot listen at {host}:{number}: {error.strerror}") from None
            continue
        return opened
    raise RecipeError(f"port {port} of {host} is taken", hint="another --port, or none: then the next free one is used")


def serve(app: Starlette, opened: socket.socket) -> None:
    """Until it is interrupted."""
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[opened])
