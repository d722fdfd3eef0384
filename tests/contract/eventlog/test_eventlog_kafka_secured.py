"""A Kafka as companies run it: TLS, passwords, and for us no more rights than the how-to lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from examples.servers.kafka import Kafka
from stranglerfig.eventlog.kafka import KafkaLog
from stranglerfig.eventlog.model import Event
from stranglerfig.foundation import clock
from stranglerfig.foundation.errors import FigError
from stranglerfig.runtime.embedded import free_port
from tests.authority import Authority

HOW_TO = Path(__file__).parents[3] / "docs" / "how-to" / "own-servers.md"
LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"


class Secured(NamedTuple):
    """A broker that takes passwords over TLS, the authority of its certificate, and another one."""

    port: int
    authority: Authority
    other: Authority

    def url(self, password: str = "well-kept", *, ca: Path | None = None, host: str = "127.0.0.1") -> str:
        return f"kafka://fig:{password}@{host}:{self.port}?ssl.ca.location={ca or self.authority.ca}"


def rights() -> list[AclBinding]:
    """The how-to's table, as the broker has them."""
    rows = [line for line in HOW_TO.read_text().splitlines() if line.startswith(("| `TOPIC`", "| `GROUP`"))]
    found = []
    for row in rows:
        kind, name, pattern, operations = (cell.strip().strip("`") for cell in row.strip("|").split("|")[:4])
        for operation in operations.split(", "):
            found.append(
                AclBinding(
                    ResourceType[kind], name, ResourcePatternType[pattern], "User:fig", "*",
                    AclOperation[operation], AclPermissionType.ALLOW,
                )
            )  # fmt: skip
    assert len(found) > 8
    return found


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, begin: Callable[[Callable[[], None]], None]) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    authority, other = Authority(folder / "authority"), Authority(folder / "other")
    authority.issue("broker", 1, names="IP:127.0.0.1")
    keys = folder / "broker.pem"
    keys.write_text((authority.folder / "broker.key").read_text() + (authority.folder / "broker.pem").read_text())
    port, inside, controller = free_port(), free_port(), free_port()
    settings = {
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listeners": f"OUTSIDE://127.0.0.1:{port},INSIDE://127.0.0.1:{inside},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"OUTSIDE://127.0.0.1:{port},INSIDE://127.0.0.1:{inside}",
        "listener.security.protocol.map": "OUTSIDE:SASL_SSL,INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "INSIDE",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(keys),
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.outside.plain.sasl.jaas.config": f'{LOGIN} user_fig="well-kept";',
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",  # who comes by the listener inside
    }
    kafka = Kafka(folder / "kafka", port=port, memory="384m", **settings)
    begin(kafka.start)
    admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{inside}"})
    for done in admin.create_acls(rights()).values():
        done.result(20)
    yield Secured(port, authority, other)
    kafka.stop()


async def test_the_rights_that_the_how_to_lists_are_enough(secured: Secured) -> None:
    log = KafkaLog(secured.url())
    for topic in ("fig.changes.inventory.forward", "events.inventory"):
        await log.create_topic(topic, partitions=2, retention_seconds=86400)
        assert await log.append(topic, [Event("1", "/here", "a.Said", clock.now(), b"{}", partitionkey="7")])
        assert [found.name for found in await log.topics()].count(topic) == 1
        assert sum([len(await log.read(topic, number, 0, wait=1)) for number in range(2)]) == 1
        member = await log.subscribe([topic], "orders.reserve")
        batch = await anext(member.batches())
        await member.commit(batch[-1])
        await member.close()
        assert sum(await log.committed(topic, "orders.reserve")) == 1
        assert "orders.reserve" in await log.groups(topic)
        await log.seek(topic, "orders.reserve", position=0)
        await log.add_partitions(topic, 3)
        await log.delete_topic(topic)
    await log.close()


async def test_a_right_that_is_missing_is_told_with_its_name(secured: Secured) -> None:
    log = KafkaLog(secured.url())
    with pytest.raises(FigError, match="TOPIC_AUTHORIZATION_FAILED") as refused:
        await log.create_topic("somebody.elses")
    assert refused.value.code == "log_refused" and "rights" in refused.value.remedy
    await log.close()


@pytest.mark.parametrize("wrong", ["authority", "name", "password"])
async def test_who_is_not_whom_we_trust_is_refused_and_why_is_told(secured: Secured, wrong: str) -> None:
    url, said = {
        "authority": (secured.url(ca=secured.other.ca), "certificate verify failed"),
        "name": (secured.url(host="localhost"), "hostname mismatch|certificate verify failed"),
        "password": (secured.url("guessed"), "[Aa]uthentication failed"),
    }[wrong]
    log = KafkaLog(url, patience=8)
    with pytest.raises(FigError, match=said) as refused:
        await log.topics()
    assert refused.value.code in ("log_unreachable", "log_refused")
    assert "guessed" not in str(refused.value) and "well-kept" not in str(refused.value)
    await log.close()
