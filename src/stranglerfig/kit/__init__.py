"""What extracted services are written with: events, aggregates, an outbox and an inbox, and what handles events."""

from stranglerfig.kit.aggregates import Aggregate, Refused, evolves
from stranglerfig.kit.consumer import NotYet
from stranglerfig.kit.messages import Command, Event
from stranglerfig.kit.projections import Projection
from stranglerfig.kit.service import Service
from stranglerfig.kit.transactions import Cause, Outbox, Transaction

__all__ = [
    "Aggregate",
    "Cause",
    "Command",
    "Event",
    "NotYet",
    "Outbox",
    "Projection",
    "Refused",
    "Service",
    "Transaction",
    "evolves",
]
