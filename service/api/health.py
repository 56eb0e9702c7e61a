"""Health, metrics, and what a caller can find out: /live, /ready, /metrics, /v1/info, /v1/limits."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from adapters_store.manifest import MAX_CHOICES

from ..errors import Draining, NotReady
from ..settings import told_limits
from . import schemas
from .routes import PROBLEMS, service_of

router = APIRouter(tags=["service"])


@router.get("/live", summary="The process answers")
async def live() -> schemas.State:
    """200 from the first second, whatever else is going on."""
    return schemas.State(status="live")


@router.get("/ready", summary="Predictions are answered", responses=PROBLEMS)
async def ready(request: Request) -> schemas.State:
    """200 once the stored adapters are loaded and the first passes have run; 503 otherwise.

    `reason`, beside 200, says that the store is read-only: predictions are answered, uploads refused.
    """
    service = service_of(request)
    if service.phase == "draining":
        raise Draining("the service is stopping")
    if service.phase != "ready":
        raise NotReady(f"{service.phase}: {service.reason}")
    read_only = service.parts.catalog.read_only
    return schemas.State(status="ready", reason=read_only and f"the store is read-only: {read_only}")


@router.get("/metrics", summary="Metrics for Prometheus", response_model=None)
async def metrics(request: Request) -> Response:
    """Text format."""
    return Response(service_of(request).metrics.render(), media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/info", summary="What is served, on what", responses=PROBLEMS)
async def info(request: Request) -> schemas.Info:
    """Backbone with its digests, device, what the version knows, and how many adapters are resident."""
    from modeling import FAMILIES, METHODS, file_kinds

    parts = service_of(request).parts
    backbone = parts.model.backbone
    return schemas.Info(
        name="trunkline",
        version=version(),
        backbone={
            "family": backbone.family.name,
            "name": backbone.name,
            "config_digest": backbone.config_digest,
            "weights_digest": backbone.weights_digest,
            "parameters": backbone.num_parameters,
            "hidden": backbone.hidden_size,
            "max_tokens": backbone.max_tokens,
        },
        device=parts.device,
        dtype=parts.number_format.name,
        dtype_reason=parts.number_format.why,
        threads=schemas.ThreadsInfo(**asdict(parts.pool.chosen)),
        families=sorted(FAMILIES),
        methods=sorted(METHODS),
        kinds=file_kinds(),
        recorded_passes=parts.model.num_recorded,
        adapters={"resident": parts.model.num_resident, "bytes": parts.model.nbytes},
        store_read_only=parts.catalog.read_only,
    )


@router.get("/v1/limits", summary="Every limit", responses=PROBLEMS, response_model=schemas.Limits)
async def limits(request: Request) -> dict[str, object]:
    """What a caller may send, and how exactly answers are reproduced."""
    from proof.replay import TOLERANCES

    service = service_of(request)
    parts = service.parts  # what depends on device and backbone is settled there
    tolerance = TOLERANCES[parts.model.backbone.dtype]
    told = {name: getattr(parts, name, getattr(service.settings, name)) for name in told_limits()}
    return told | {
        "max_choices": MAX_CHOICES,
        "max_tokens": parts.model.backbone.max_tokens,
        "store_read_only": parts.catalog.read_only is not None,
        "tolerance": {
            "probes": {"atol": tolerance.atol, "rtol": tolerance.rtol},
            "mixed_batch_float32": {"atol": 1e-5, "rtol": 1e-5},
        },
    }


@cache
def version() -> str:
    try:
        return installed_version("trunkline")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "0+unknown"
