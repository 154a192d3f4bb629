"""Metronome's customers: their names, and the aliases under which their events come (CM22).

An alias is replaced by its customer where the event is taken, so the log holds the customer alone.
"""

import uuid
from dataclasses import replace
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from definitions.times import parse_timestamp, rfc3339

from ...control.customers import CUSTOMERS_MAX, NamedCustomer, record_of
from ...errors import UnknownNameError
from ..http.bodies import read
from ..http.cursors import Key
from ..http.errors import NOT_FOUND, Refused
from ..http.parameters import number_in
from ..http.requests import body_json, takes
from ..http.service import Service
from . import customer_models, models, shapes
from .routes import DOCUMENTED, PAGE_MAX, Managing, Reading, answer, begun

router = APIRouter(prefix="/v1/customers", tags=["Metronome"])
_ASKED_MAX: Final = 100  # customer_ids of a list
_LISTED: Final = {
    "limit": "1 to 100",
    "next_page": "the cursor of an earlier answer",
    "ingest_alias": "the customer who has this alias",
    "customer_ids": "up to 100 of them",
    "only_archived": "true: archived ones alone",
}


def _brief(customer: NamedCustomer) -> dict[str, Any]:
    """A customer as the answers to what changes it have it."""
    return {
        "id": customer.id,
        "external_id": next(iter(customer.aliases), customer.id),
        "ingest_aliases": list(customer.aliases),
        "name": customer.name,
        "custom_fields": dict(customer.custom_fields),
    }


def _shown(customer: NamedCustomer) -> dict[str, Any]:
    """A customer as it is read."""
    shown = {
        **_brief(customer),
        "customer_config": {"salesforce_account_id": None},
        "created_at": customer.created_at,
        "updated_at": customer.updated_at,
    }
    return {**shown, "archived_at": customer.updated_at} if customer.archived else shown


def _found(service: Service, customer_id: str) -> NamedCustomer:
    customer = service.control.state.customers.held.get(customer_id)
    if customer is None:
        raise UnknownNameError(NOT_FOUND)
    return customer


async def _keep(service: Service, customer: NamedCustomer) -> NamedCustomer:
    """Write a customer as it is from now on; one writer at a time holds the control log."""
    at = rfc3339(service.clock.now())
    await service.control.write(record_of(customer, at))
    return service.control.state.customers.held[customer.id]


@router.post(
    "", response_model=shapes.OneCustomer, **DOCUMENTED, **takes(customer_models.NewCustomer)
)
async def create(request: Request, service: Managing) -> Response:
    """Create a customer. Events need none: any customer_id is one."""
    body = read(customer_models.NewCustomer, await body_json(request), "M")
    async with service.writing():
        if len(service.control.state.customers.held) >= CUSTOMERS_MAX:
            raise Refused(400, f"at most {CUSTOMERS_MAX} customers are kept")
        aliases = tuple(dict.fromkeys(body.ingest_aliases))
        new = NamedCustomer(str(uuid.uuid4()), body.name, aliases, body.custom_fields, "", "")
        made = await _keep(service, new)
    return answer({"data": _brief(made)})


@router.get("", response_model=shapes.CustomerPage, **DOCUMENTED, **takes(query=_LISTED))
async def list_customers(request: Request, service: Reading) -> Response:
    """List customers, oldest first."""
    customers = (await service.fresh()).customers
    asked = request.query_params
    archived = asked.get("only_archived", "false").lower() == "true"
    alias, ids = asked.get("ingest_alias"), asked.getlist("customer_ids")
    if len(ids) > _ASKED_MAX:
        raise Refused(400, f"at most {_ASKED_MAX} customer_ids")
    found = [
        (_place(each), each)
        for each in customers.held.values()
        if each.archived is archived
        and (alias is None or alias in each.aliases)
        and (not ids or each.id in ids)
    ]
    question = {"archived": archived, "alias": alias, "ids": ids}
    page = begun(request, service, question).page(
        found, number_in(request, "limit", PAGE_MAX, 100)
    )
    return answer({"data": [_shown(each) for each in page.rows], "next_page": page.next})


def _place(customer: NamedCustomer) -> Key:
    return (parse_timestamp(customer.created_at) or 0, customer.id)


@router.get("/{customer_id}", response_model=shapes.WholeCustomer, **DOCUMENTED)
async def retrieve(customer_id: str, service: Reading) -> Response:
    """Return a customer."""
    await service.fresh()
    return answer({"data": _shown(_found(service, customer_id))})


@router.post(
    "/{customer_id}/setIngestAliases", **DOCUMENTED, **takes(customer_models.IngestAliases)
)
async def set_aliases(customer_id: str, request: Request, service: Managing) -> Response:
    """Give a customer its aliases, all of them; one of another customer moves."""
    body = read(customer_models.IngestAliases, await body_json(request), "M")
    async with service.writing():
        aliases = tuple(dict.fromkeys(body.ingest_aliases))
        await _keep(service, replace(_found(service, customer_id), aliases=aliases))
    return answer({})


@router.post(
    "/{customer_id}/setName",
    response_model=shapes.OneCustomer,
    **DOCUMENTED,
    **takes(models.Rename),
)
async def rename(customer_id: str, request: Request, service: Managing) -> Response:
    """Rename a customer."""
    body = read(models.Rename, await body_json(request), "M")
    async with service.writing():
        made = await _keep(service, replace(_found(service, customer_id), name=body.name))
    return answer({"data": _brief(made)})


@router.post("/archive", response_model=shapes.One, **DOCUMENTED, **takes(models.Archive))
async def archive(request: Request, service: Managing) -> Response:
    """Archive a customer: it is listed no more, and its aliases are free. Its usage stays."""
    body = read(models.Archive, await body_json(request), "M")
    async with service.writing():
        gone = replace(_found(service, body.id), archived=True, aliases=())
        await _keep(service, gone)
    return answer({"data": {"id": body.id}})
