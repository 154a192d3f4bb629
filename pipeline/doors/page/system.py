"""The deployment on the page: versions, sizes, what decides numbers; settings and keys."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from ...settings import describe
from ...telemetry.versions import libraries, release
from .showing import rendered
from .visits import Visit, visiting

router = APIRouter(include_in_schema=False)
Reads = Annotated[Visit, Depends(visiting("read"))]


@router.get("/page/system")
async def system(request: Request, visit: Reads) -> Response:
    """What runs here, and on what; settings and keys only for who may manage."""
    service = visit.service
    state, identity = await service.fresh(), service.identity
    used, limit = await service.store.memory()
    keys = sorted(state.keys.values(), key=lambda each: each.created_at)
    return rendered(
        request,
        "system.html",
        versions=_versions(),
        deployment=_deployment(visit),
        topics=identity.topics,
        memory=(used, limit),
        settings=describe(service.settings) if visit.may_manage else None,
        keys=keys if visit.may_manage else None,
    )


def _versions() -> dict[str, str]:
    runs = release()
    native = "built" if runs["native"] else "not built: this machine would fold by Python"
    return {
        "Recount": str(runs["recount"]),
        "rules": str(runs["rules"]),
        "format of the state": str(runs["format"]),
        "native/": native,
        "Python": str(runs["python"]),
        **libraries(),
    }


def _deployment(visit: Visit) -> dict[str, Any]:
    """The settings that decide numbers, as `recount init` fixed them."""
    identity = visit.service.identity
    fixed = identity.deployment
    return {
        "name": visit.service.settings.deployment,
        "store_id": fixed.store_id,
        "partitions": len(identity.starts),
        "homes": fixed.homes,
        "base bucket": f"{fixed.base_bucket_s // 60} min",
        "dedup window": _days(fixed.dedup_window_ms),
        "oldest event": _days(fixed.max_age_ms) if fixed.max_age_ms else "no limit",
        "ahead of its time": f"{fixed.max_ahead_ms / 3_600_000:g} h",
        "keying": str(fixed.keying),
        "replication": identity.replication_factor,
        "retention": "unlimited"
        if identity.retention_days is None
        else f"{identity.retention_days:g} days",
    }


def _days(ms: int) -> str:
    return f"{ms / 86_400_000:g} days"
