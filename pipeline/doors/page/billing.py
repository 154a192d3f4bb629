"""Closed periods on the page: their revisions, as the control log tells them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from ...periods.shapes import told_of
from .showing import rendered
from .visits import Visit, visiting

router = APIRouter(include_in_schema=False)
Reads = Annotated[Visit, Depends(visiting("read"))]


@router.get("/page/billing")
async def billing(request: Request, visit: Reads) -> Response:
    """Every revision of every closed period, the latest first."""
    known = (await visit.service.fresh()).periods
    keys = sorted(known, reverse=True)
    lines = [told_of(each) for key in keys for each in reversed(known[key])]
    return rendered(request, "billing.html", lines=lines)
