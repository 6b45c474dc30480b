"""Figures for a monitoring: off until there is a token, which is good for nothing else."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel

from notfallserver.server.web.peer import house_of
from notfallserver.server.web.people import Administrator
from notfallserver.wire.errors import NotfallError

router = APIRouter(tags=["metrics"])
scraped = APIRouter(include_in_schema=False)
"""``/metrics``, where every monitoring looks first."""


class MetricsState(BaseModel):
    """``since``: when the token that holds was made; empty: there is none, nobody may ask."""

    since: datetime | None


class MetricsToken(BaseModel):
    token: str


@scraped.get("/metrics")
def metrics(request: Request) -> Response:
    """In the text format of Prometheus or as OpenMetrics, whichever is asked for."""
    house = house_of(request)
    kept = house.catalogue.metrics_token
    if kept.since() is None:
        raise NotfallError(
            "metrics-off",
            "Nobody may ask for figures here yet.",
            "Make a token: notfall metrics token",
            status=404,
        )
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not kept.holds(token.strip()):
        raise NotfallError(
            "wrong-metrics-token",
            "This needs the token for figures.",
            "Write it into the monitoring's settings; a new one: notfall metrics token",
            status=401,
        )
    content, form = house.meter.text(request.headers.get("accept", ""))
    return Response(content, headers={"Content-Type": form})


@router.get("/metrics")
def metrics_token_state(request: Request, who: Administrator) -> MetricsState:
    return metrics_state(request)


@router.get("/metrics/figures", response_class=Response)
def figures(request: Request, who: Administrator) -> Response:
    """What a monitoring gets, to look at it."""
    content, form = house_of(request).meter.text("")
    return Response(content, headers={"Content-Type": form})


@router.post("/metrics/token")
def make_token(request: Request, who: Administrator) -> MetricsToken:
    """A new token; the one before holds no more. It is not shown again."""
    return MetricsToken(token=house_of(request).catalogue.metrics_token.make(who))


@router.delete("/metrics/token", status_code=204)
def drop_token(request: Request, who: Administrator) -> Response:
    """Nobody may ask any more."""
    house_of(request).catalogue.metrics_token.drop(who)
    return Response(status_code=204)


def metrics_state(request: Request) -> MetricsState:
    return MetricsState(since=house_of(request).catalogue.metrics_token.since())
