"""What the Open Inference Protocol v2 tells about the service and its models: all of /v2 but the inference."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from app import DISTRIBUTION
from app.errors import Problem
from app.http.drain import Drain, why_not_ready
from app.http.openapi import protocol_errors
from app.inference.classifier import Classifier
from app.open_inference.models import Model

TAGS: list[Any] = ["Open Inference Protocol v2"]
EXTENSIONS = ["binary_tensor_data", "classification", "model_configuration"]
_VERSION = "/versions/{version}"


def path_of(models: Mapping[str, Model]) -> dict[str, Any]:
    """What OpenAPI says of `{model}` in a path."""
    schema = {"type": "string", "enum": list(models)}
    text = "The network by its pixels, or by encoded images."
    return {"parameters": [{"name": "model", "in": "path", "required": True, "description": text, "schema": schema}]}


def model_at(path: Mapping[str, str], models: Mapping[str, Model]) -> Model:
    """The model that a path names, in the version that it may name. Raises Problem."""
    model = models.get(path["model"])
    if model is None:
        raise Problem("not_found", f"There is no such model; there are {', '.join(models)}.")
    if path.get("version", model.version) != model.version:
        raise Problem("not_found", f"There is no such version of {model.name}; there is {model.version}.")
    return model


def router(classifier: Classifier, drain: Drain, models: Mapping[str, Model]) -> APIRouter:
    """The routes, about the classifier."""
    routes = APIRouter(prefix="/v2", tags=TAGS)

    @routes.get("")
    @routes.get("/", include_in_schema=False)
    async def server() -> dict[str, Any]:
        """Which extensions of the protocol are spoken here."""
        return {"name": "sightglass", "version": version(DISTRIBUTION), "extensions": EXTENSIONS}

    @routes.get("/health/live", responses=protocol_errors(503))
    async def live() -> JSONResponse:
        """Whether a restart would not help."""
        trouble = classifier.why_not_live()
        return _health({"live": not trouble}, trouble)

    @routes.get("/health/ready", responses=protocol_errors(503))
    async def ready() -> JSONResponse:
        """Whether images are answered."""
        trouble = why_not_ready(classifier, drain)
        return _health({"ready": not trouble}, trouble)

    @routes.post("/repository/index")
    async def index() -> list[dict[str, str]]:
        """The models: one network, by its pixels and by encoded images."""
        trouble = why_not_ready(classifier, drain)
        state = {"state": "UNAVAILABLE" if trouble else "READY", "reason": trouble}
        return [{"name": model.name, "version": model.version, **state} for model in models.values()]

    _add_models(routes, classifier, drain, models)
    return routes


def _add_models(routes: APIRouter, classifier: Classifier, drain: Drain, models: Mapping[str, Model]) -> None:
    documented = path_of(models)

    @routes.get("/models/{model}", responses=protocol_errors(404), openapi_extra=documented)
    @routes.get("/models/{model}" + _VERSION, include_in_schema=False)
    async def metadata(request: Request) -> dict[str, Any]:
        """The model's input and outputs; the first side of each shape, -1, is the number of images."""
        return model_at(request.path_params, models).metadata()

    @routes.get("/models/{model}/config", responses=protocol_errors(404), openapi_extra=documented)
    @routes.get("/models/{model}" + _VERSION + "/config", include_in_schema=False)
    async def config(request: Request) -> dict[str, Any]:
        """The same as Triton's clients ask for it, and how many images one request may have."""
        return model_at(request.path_params, models).config(classifier.admission.most_of_a_request)

    @routes.get("/models/{model}/ready", responses=protocol_errors(404, 503), openapi_extra=documented)
    @routes.get("/models/{model}" + _VERSION + "/ready", include_in_schema=False)
    async def model_ready(request: Request) -> JSONResponse:
        """Whether the model's images are answered."""
        model, trouble = model_at(request.path_params, models), why_not_ready(classifier, drain)
        return _health({"name": model.name, "ready": not trouble}, trouble)


def _health(content: dict[str, Any], trouble: str) -> JSONResponse:
    error = {"error": trouble} if trouble else {}
    return JSONResponse(content | error, 503 if trouble else 200, headers={"Cache-Control": "no-store"})
