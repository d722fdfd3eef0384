"""Choreographed flows as they are written: reactions of services, declared, and a record of what came of them.

::

    refund = Flow("refund", starts=[RefundAsked], ends=[Refunded, RefundRefused], within="1m")

    @refund.reacts(service, RefundAsked, emits=[Returned, RefundRefused])
    async def take_back(event: RefundAsked, tx: Transaction) -> None: ...

    refund.elsewhere("money", Returned, emits=[Refunded])   # another service's, perhaps in another language
    refund.recorded_by(service)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from psycopg.types.json import Json

from stranglerfig.kit import Service, Transaction
from stranglerfig.kit.messages import Message, kind_of
from stranglerfig.kit.tenants import within
from stranglerfig.sagas import flows
from stranglerfig.sagas.declaring import seconds
from stranglerfig.sagas.flows import Drawing, Reaction
from stranglerfig.sagas.instances import keep_tables, queries

M = TypeVar("M", bound=Message)
Handler = Callable[[M, Transaction], Awaitable[None]]


class Flow:
    """A business transaction without a conductor.

    Args:
        starts, ends: the messages that begin one, and after which nothing need follow.
        within: how long a reaction may take before it is missed.
        max_hops: how long a path may get where the flow runs in circles on purpose.
    """

    def __init__(
        self,
        name: str,
        *,
        starts: Sequence[type[Message]],
        ends: Sequence[type[Message]],
        within: str | float = "1m",
        max_hops: int | None = None,
    ) -> None:
        self.name = name
        self._starts = tuple(starts)
        self._ends = tuple(ends)
        self._within = seconds(within) or 0.0
        self._max_hops = max_hops
        self._reactions: list[Reaction] = []
        self._classes: dict[type[Message], None] = dict.fromkeys((*starts, *ends))

    @property
    def drawing(self) -> Drawing:
        """The flow as declared so far."""
        starts, ends = (tuple(kind_of(each).type for each in some) for some in (self._starts, self._ends))
        return Drawing(self.name, starts, ends, tuple(self._reactions), self._within, self._max_hops)

    def reacts(
        self, service: Service, *messages: type[M], emits: Sequence[type[Message]], may_stay_silent: bool = False
    ) -> Callable[[Handler[M]], Handler[M]]:
        """Declare a reaction, and what handles it: anything else that it sends is refused.

        Args:
            emits: what may follow: one of them does, unless it ``may_stay_silent``.
        """
        for message in messages:
            self.elsewhere(service.name, message, emits=emits, may_stay_silent=may_stay_silent)
        return service.on(*messages, emits=emits)

    def elsewhere(
        self, service: str, message: type[Message], *, emits: Sequence[type[Message]], may_stay_silent: bool = False
    ) -> None:
        """Declare a reaction of a service whose code is not here."""
        types = tuple(kind_of(each).type for each in emits)
        self._reactions.append(Reaction(service, kind_of(message).type, types, may_stay_silent))
        self._classes |= dict.fromkeys((message, *emits))

    def recorded_by(self, service: Service) -> None:
        """Have a service record what happens in the flow, in its own database, for ``fig flow``.

        Raises:
            FigError: ``flow_misdeclared`` when the flow runs in circles without a limit, or leads nowhere.
        """
        flows.check(self.drawing)
        keep_tables(service)
        service.beside(f"flow {self.name}", lambda: self._leave_word(service))
        service.on(*self._classes, subscription=f"flow.{self.name}", emits=())(self._record)

    async def _leave_word(self, service: Service) -> None:
        async with service.session() as conn:
            await conn.execute(queries.know_flow, {"name": self.name, "drawing": Json(flows.as_data(self.drawing))})

    async def _record(self, _: Message, tx: Transaction) -> None:
        event = tx.event
        if event is None:
            return
        tx.execute(
            queries.record_event,
            {
                "flow": self.name, "id": within(tx.tenant, event.id), "type": event.type, "source": event.source,
                "correlation": within(tx.tenant, event.correlationid or event.id),
                "cause": event.causationid and within(tx.tenant, event.causationid), "at": event.time,
            },
        )  # fmt: skip
