"""A Kafka broker as it is installed: what its own settings allow is enough for ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from examples.servers.kafka import Kafka
from stranglerfig.eventlog.kafka import KafkaLog
from stranglerfig.eventlog.model import Event
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, begin: Callable[[Callable[[], None]], None]) -> Iterator[Kafka]:
    """One that nobody has configured for us."""
    kafka = Kafka(tmp_path_factory.mktemp("kafka"), memory="384m")
    begin(kafka.start)
    yield kafka
    kafka.stop()


async def test_a_group_is_joined_with_the_lease_that_members_have_unless_they_say_otherwise(broker: Kafka) -> None:
    log = KafkaLog(broker.url)
    await log.create_topic("t")
    await log.append("t", [Event("1", "/here", "t.Said", clock.now(), b"{}")])
    member = await log.subscribe(["t"], "g")
    batch = await anext(member.batches())
    assert [record.event.id for record in batch] == ["1"]
    await member.commit(batch[-1])
    assert await log.committed("t", "g") == (1,)
    await member.close()
    await log.close()


async def test_a_lease_that_the_broker_does_not_take_is_refused_with_what_it_takes(broker: Kafka) -> None:
    log = KafkaLog(broker.url)
    await log.create_topic("u")
    member = await log.subscribe(["u"], "g", lease=1.0)
    with pytest.raises(FigError, match="takes no members with such a lease") as refused:
        await anext(member.batches())
    assert refused.value.code == "log_refused"
    assert "group.min.session.timeout.ms (6 s unless set)" in refused.value.remedy
    await member.close()
    await log.close()
