"""What `mmcl serve` answers, path by path."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from importlib.resources import files as resources
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from ... import __version__
from ...api.errors import MmclError
from .desk import Question
from .limits import Limits
from .uploads import Refusal, below, keep_uploads
from .worker import Worker

REASONS: dict[int | str, dict[str, Any]] = {
    400: {"description": "A question that means nothing, or something that the run does not have."},
    403: {"description": "A path outside of the folder that is served, another host or another origin."},
    404: {"description": "No such path."},
    413: {"description": "An upload, a recording or a list of them beyond the limits."},
    415: {"description": "Neither a form with files nor JSON."},
    422: {"description": "A file that cannot be read."},
    503: {"description": "Too many questions are waiting."},
    504: {"description": "The answer took too long."},
}
"""What is said in one sentence, as {"error": …}."""

BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "description": "The files of one recording. A field called as a source of the run says that the file is of it.",
                    "properties": {"file": {"type": "string", "format": "binary"}},
                    "additionalProperties": {"type": "string", "format": "binary"},
                }
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "description": "A file, a folder or a table below the folder of --root.",
                    "properties": {"path": {"type": "string"}},
                    "required": ["path"],
                    "additionalProperties": False,
                }
            },
        },
    }
}

FILES = 16
"""Files that a form may hold."""

Fold = Annotated[int | None, Query(ge=0, description="Ask this fold alone.")]
Seed = Annotated[int | None, Query(description="Ask this seed alone.")]
Seconds = Annotated[float | None, Query(gt=0, le=1e6, description="Length of windows; left out: the recipe's.")]
Hop = Annotated[float | None, Query(gt=0, le=1e6, description="From one window to the next; left out: half of one.")]
Windows = Annotated[bool, Query(description="A row for every window in place of one a recording.")]
Input = Annotated[str | None, Query(description="Ask heads on these modalities; left out: on most of those that there are.")]
Head = Annotated[str | None, Query(description="Ask this head; left out: the recipe's first that suits.")]
Supervised = Annotated[bool, Query(description="Ask the networks that labels trained, not heads on frozen features.")]
Task = Annotated[list[str], Query(description="Predict this task alone; may be given several times.")]
Count = Annotated[int, Query(ge=1, le=1000, description="So many neighbours.")]


def make_app(worker: Worker, limits: Limits, root: Path | None, style: str) -> FastAPI:
    """The app of a run.

    worker  the process that answers
    root    the folder of which paths are taken; None: paths are refused
    style   the style sheet of pages
    """
    app = FastAPI(title=f"mmcl serve: {worker.about['name']}", version=__version__, docs_url=None, redoc_url=None)
    _page(app, style)

    @app.get("/health", summary="Whether the server is there, and busy")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "run": worker.about["name"], "version": __version__, "busy": worker.busy}

    @app.get("/api/about", summary="What the run reads and answers, and the limits")
    async def about() -> dict[str, Any]:
        taken = {name: value for name, value in vars(limits).items() if name != "memory"}
        return worker.about | {"limits": taken, "paths": root is not None}

    async def reply(request: Request, what: str, given: Mapping[str, Any]) -> Response:
        async with AsyncExitStack() as stack:
            question = await _question(request, stack, worker, root, what, dict(given))
            answered = await worker.ask(question)
        return JSONResponse(answered.body, answered.status)

    @app.post("/api/predict", summary="Labels with calibrated probabilities, or values", responses=REASONS, openapi_extra=BODY)
    async def predict(
        request: Request,
        windows: Windows = False,
        seconds: Seconds = None,
        hop: Hop = None,
        task: Task = [],  # noqa: B006 - FastAPI copies it
        input: Input = None,
        head: Head = None,
        supervised: Supervised = False,
        fold: Fold = None,
        seed: Seed = None,
    ) -> Response:
        how = {"windows": windows, "seconds": seconds, "hop": hop, "task": task, "input": input, "head": head}
        return await reply(request, "predict", how | {"supervised": supervised, "fold": fold, "seed": seed})

    @app.post("/api/embed", summary="Frozen features by modality", responses=REASONS, openapi_extra=BODY)
    async def embed(
        request: Request,
        windows: Windows = False,
        seconds: Seconds = None,
        hop: Hop = None,
        fold: Fold = None,
        seed: Seed = None,
    ) -> Response:
        how = {"windows": windows, "seconds": seconds, "hop": hop, "fold": fold, "seed": seed}
        return await reply(request, "embed", how)

    @app.post("/api/search", summary="The nearest recordings", responses=REASONS, openapi_extra=BODY)
    async def search(
        request: Request,
        n: Count = 10,
        by: Annotated[str | None, Query(description="Modality of what is sent; left out: all that it has.")] = None,
        modality: Annotated[str | None, Query(description="Modality of the neighbours; left out: all that they have.")] = None,
        fold: Fold = None,
        seed: Seed = None,
    ) -> Response:
        return await reply(request, "search", {"n": n, "by": by, "modality": modality, "fold": fold, "seed": seed})

    @app.post(
        "/api/look", summary="All that the page shows: answers, their course, neighbours", responses=REASONS, openapi_extra=BODY
    )
    async def look(
        request: Request, seconds: Seconds = None, hop: Hop = None, supervised: Supervised = False, n: Count = 6
    ) -> Response:
        return await reply(request, "look", {"seconds": seconds, "hop": hop, "supervised": supervised, "n": n})

    _sentences(app)
    return app


async def _question(
    request: Request, stack: AsyncExitStack, worker: Worker, root: Path | None, what: str, given: dict[str, Any]
) -> Question:
    """What a request asks; its uploaded files are gone when the stack is left. Raises Refusal."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "application/json":
        try:
            body = await request.json()
        except ValueError as error:
            raise Refusal(400, "the body is no JSON") from error
        if not isinstance(body, dict) or list(body) != ["path"] or not isinstance(body["path"], str):
            raise Refusal(400, 'the body is not {"path": "a file below the folder that is served"}')
        path = below(root, body["path"])
        assert root is not None
        return Question(what, (path,), root, None, given)
    if kind != "multipart/form-data":
        raise Refusal(415, "send files as multipart/form-data, or a path as application/json")
    form = await stack.enter_async_context(request.form(max_files=FILES, max_fields=FILES))
    sent = [(field, value) for field, value in form.multi_items() if isinstance(value, UploadFile)]
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mmcl-serve-")))
    sources = {one["source"] for one in worker.about["modalities"].values()}
    kept = await keep_uploads(sent, folder, sources)
    return Question(what, tuple(kept), folder, kept[0].stem, given)


def _page(app: FastAPI, style: str) -> None:
    """The page, its script and its style, all of this package."""
    static = resources(__package__) / "static"
    texts = {name: (static / name).read_text(encoding="utf-8") for name in ("page.html", "page.js", "page.css")}

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return Response(texts["page.html"], media_type="text/html; charset=utf-8")

    @app.get("/page.js", include_in_schema=False)
    async def script() -> Response:
        return Response(texts["page.js"], media_type="text/javascript; charset=utf-8")

    @app.get("/page.css", include_in_schema=False)
    async def sheet() -> Response:
        return Response(style + texts["page.css"], media_type="text/css; charset=utf-8")


def _sentences(app: FastAPI) -> None:
    """Whatever is refused is one sentence."""

    @app.exception_handler(MmclError)
    async def refused(request: Request, error: MmclError) -> Response:
        status = error.status if isinstance(error, Refusal) else 500
        return JSONResponse({"error": str(error)}, status)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        text = {404: "there is nothing at this address", 405: f"{request.method} is not for this address"}
        return JSONResponse({"error": text.get(error.status_code, str(error.detail))}, error.status_code)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        problems = "; ".join(f"{one['loc'][-1]}: {one['msg'].lower()}" for one in error.errors())
        return JSONResponse({"error": problems}, 400)
