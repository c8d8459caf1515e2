"""The routes of the service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from class_hf._version import __version__
from class_hf.search.index import MoleculeIndex
from class_hf.search.query import Hit
from class_hf.service.batching import QueueIsFull
from class_hf.service.engine import ServiceEngine
from class_hf.service.guard import QUERIES, ServiceGuard, error_body
from class_hf.service.metrics import CONTENT_TYPE, ServiceMetrics
from class_hf.service.schemas import (
    CaptionsBody,
    EmbeddingsAnswer,
    ErrorAnswer,
    Filters,
    HealthAnswer,
    MoleculesBody,
    SearchAnswer,
    SearchBody,
    TextsBody,
)
from class_hf.service.settings import ServiceSettings
from class_hf.utils.json_text import json_text
from class_hf.utils.suggestions import did_you_mean

_ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorAnswer, "description": "The bearer token is missing or wrong."},
    413: {"model": ErrorAnswer, "description": "The body is too large."},
    422: {"model": ErrorAnswer, "description": "The request is malformed, or above a limit."},
    429: {"model": ErrorAnswer, "description": "Too many queries wait. Send the request again later."},
    503: {"model": ErrorAnswer, "description": "The request took longer than the time limit."},
}
_BODIES: dict[str, type[BaseModel]] = {
    "/v1/search": SearchBody,
    "/v1/captions": CaptionsBody,
    "/v1/embed/text": TextsBody,
    "/v1/embed/molecules": MoleculesBody,
}
_DECIMALS = 8  # of a component of a vector: float32 has no more


def build_app(index: MoleculeIndex, settings: ServiceSettings | None = None, token: str | None = None) -> FastAPI:
    """The service as an ASGI application.

    Args:
        index: the index to serve. Its model is loaded here. It is closed when the application ends.
        settings (`ServiceSettings`, *optional*): limits.
        token (`str`, *optional*): bearer token that requests must carry. Default: none.

    Returns:
        `fastapi.FastAPI`: for a server such as uvicorn.

    Raises:
        ValueError: If the model cannot be loaded, or did not make the index.
    """
    settings = settings or ServiceSettings()
    metrics = ServiceMetrics()
    engine = ServiceEngine(index, settings, metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        engine.close()

    # The interactive pages of FastAPI load their scripts from another host.
    app = FastAPI(
        title="class_hf",
        version=__version__,
        description="Searches molecules by text and by molecule.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.add_middleware(ServiceGuard, settings=settings, metrics=metrics, token=token)
    _add_errors(app)
    _add_routes(app, engine, metrics)
    return app


def _add_routes(app: FastAPI, engine: ServiceEngine, metrics: ServiceMetrics) -> None:
    config = engine.index.config

    # The answers are rendered here: validating thousands of hits once more would take longer than finding them.
    @app.post("/v1/search", response_model=SearchAnswer, responses=_ERRORS, summary="Find molecules")
    async def search(body: SearchBody, request: Request) -> Any:
        return _answer_hits(request, await engine.search(body))

    @app.post("/v1/captions", response_model=SearchAnswer, responses=_ERRORS, summary="Find captions of a molecule")
    async def captions(body: CaptionsBody, request: Request) -> Any:
        return _answer_hits(request, await engine.captions(body))

    @app.post("/v1/embed/text", response_model=EmbeddingsAnswer, responses=_ERRORS, summary="Encode texts")
    async def embed_text(body: TextsBody, request: Request) -> Any:
        return _answer_vectors(request, await engine.embed("text", body.texts))

    @app.post("/v1/embed/molecules", response_model=EmbeddingsAnswer, responses=_ERRORS, summary="Encode molecules")
    async def embed_molecules(body: MoleculesBody, request: Request) -> Any:
        return _answer_vectors(request, await engine.embed("molecule", body.smiles))

    @app.get("/health", response_model=HealthAnswer, summary="Whether the service is up, and what it serves")
    async def health() -> Any:
        return {
            "status": "ok",
            "version": __version__,
            "molecules": config["molecules"],
            "captions": config["captions"],
            "query_bank": config["query_bank"] is not None,
        }

    @app.get("/metrics", summary="Numbers for Prometheus", response_class=Response)
    async def numbers() -> Any:
        metrics.set_state(engine.waiting, config["molecules"])
        return Response(metrics.render(), media_type=CONTENT_TYPE)


def _answer_hits(request: Request, results: list[list[Hit]]) -> Response:
    request.scope[QUERIES] = len(results)
    return _json({"results": [[asdict(hit) for hit in hits] for hits in results]})


def _answer_vectors(request: Request, vectors: np.ndarray) -> Response:
    request.scope[QUERIES] = len(vectors)
    rounded = vectors.astype(np.float64).round(_DECIMALS)
    return _json({"embeddings": rounded.tolist(), "dimension": rounded.shape[1]})


def _json(content: Any) -> Response:
    return Response(json_text(content), media_type="application/json")


def _add_errors(app: FastAPI) -> None:
    """Turns errors that a client can cause into one line of JSON. The guard answers all others."""

    def handle(kind: type[Exception], status: int | None, headers: dict[str, str] | None = None) -> None:
        async def answer(request: Request, error: Any) -> Response:
            body = error_body(_reason(error, request.url.path))
            code = error.status_code if status is None else status
            return Response(body, code, headers, media_type="application/json")

        app.add_exception_handler(kind, answer)

    handle(HTTPException, None)
    handle(RequestValidationError, 422)
    handle(ValueError, 422)
    handle(TimeoutError, 422)
    handle(QueueIsFull, 429, {"Retry-After": "1"})


def _reason(error: Any, path: str) -> str:
    """The reason in one line, for a request to a path."""
    if isinstance(error, HTTPException):
        routes = {404: "there is no such route; /openapi.json lists them.", 405: "this route has another method."}
        return routes.get(error.status_code, str(error.detail))
    if isinstance(error, QueueIsFull):
        return "too many queries wait; send the request again later."
    if isinstance(error, RequestValidationError):
        return validation_reason(error.errors(), _BODIES.get(path))
    return str(error)


def validation_reason(errors: Any, body: type[BaseModel] | None = None) -> str:
    """The first field that is wrong, and how. Values are not quoted.

    Args:
        errors: from pydantic.
        body: *optional*, the class of the request. A similar field is named in place of an unknown one.

    >>> wrong = {"msg": "Input should be a valid integer", "type": "int_type"}
    >>> validation_reason([{"loc": ("body", "k"), **wrong}])
    'k: input should be a valid integer.'
    >>> validation_reason([{"loc": ("body", "text"), "msg": "", "type": "extra_forbidden"}], TextsBody)
    "text is not a field of this request. Did you mean 'texts'? Its fields are texts."
    """
    # A misspelt field causes two errors where it is required. The one about the wrong name comes first.
    errors = sorted(errors, key=lambda error: error["type"] != "extra_forbidden")
    field = errors[0]["loc"][1:2]
    if errors[0]["type"] == "json_invalid":
        return "the body is not valid JSON."
    if not field:
        return "the body is not a JSON object; send it with the header 'Content-Type: application/json'."
    if errors[0]["type"] == "extra_forbidden":
        location = errors[0]["loc"]
        model = Filters if len(location) > 2 and location[1] == "filters" else body
        unknown = f"{_dotted(location)} is not a field of this request"
        if model is None:
            return f"{unknown}."
        near = did_you_mean(location[-1], model.model_fields, otherwise="").replace("did", "Did", 1)
        return f"{unknown}. {near} Its fields are {', '.join(model.model_fields)}.".replace("  ", " ")
    # A field that takes several types has an error for each.
    messages = dict.fromkeys(error["msg"] for error in errors if error["loc"][1:2] == field)
    text = " or ".join(messages).replace(" or Input should be", " or")
    return f"{_dotted(errors[0]['loc'])}: {text[:1].lower()}{text[1:]}."


def _dotted(location: Any) -> str:
    """The name of a field, without the types that pydantic adds to it."""
    names = (str(part)[:40] for part in location[1:])
    return ".".join(name for name in names if name != "str" and not name.startswith("list["))
