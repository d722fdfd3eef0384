"""The router on a real RabbitMQ: nothing lost, doubled, overtaken or changed, whatever fails."""

from __future__ import annotations

import asyncio
import datetime
import struct
import uuid
from typing import Any

import pytest
from broker_estate import Commands, Routed
from pamqp import commands

from examples.servers.rabbitmq import RabbitMQ
from stranglerfig.facade.router import QueueRouter
from stranglerfig.foundation import clock, tasks
from stranglerfig.foundation.errors import FigError


async def test_a_message_passes_as_it_came(routed: Routed) -> None:
    await routed.declare()
    requester, monolith = await routed.party(), await routed.party()
    await monolith.consume(f"{routed.prefix}mono")
    await routed.start()
    said: dict[str, Any] = {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "headers": {"item": 7, "CC": [f"{routed.prefix}svc"], "nested": {"a": [1, 2.5, None, True]}, "x-death": []},
        "priority": 3,
        "correlation_id": "c",
        "reply_to": "answers",
        "expiration": "60000",
        "message_id": "m",
        "timestamp": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        "message_type": "AdjustStock",
        "app_id": "shop",
        "user_id": "guest",
    }
    body = b"x" * 400_000  # several frames
    requester.put(f"{routed.prefix}in", body, **said)
    requester.put(f"{routed.prefix}in", b"", message_type="Unknown")
    await routed.until(lambda: len(monolith.got) == 2, "both")
    from broker_estate import properties

    assert monolith.got[0].properties == properties(**said), "byte for byte"
    assert monolith.got[0].body == body and monolith.got[0].routing_key == f"{routed.prefix}in"
    assert monolith.got[1].body == b""
    assert routed.router.counts[f"{routed.prefix}mono"] == 2
    await routed.until(lambda: len(routed.router.passed) == 2, "both to be confirmed")
    assert {kind: times for kind, (times, _) in routed.router.passed.items()} == {"AdjustStock": 1, "Unknown": 1}


async def test_a_requester_gets_its_answer_by_direct_reply_to(routed: Routed) -> None:
    await routed.declare()
    requester, monolith = await routed.party(), await routed.party()
    await requester.consume("amq.rabbitmq.reply-to", no_ack=True)
    await monolith.consume(f"{routed.prefix}mono")
    await routed.start()
    requester.put(
        f"{routed.prefix}in",
        b"?",
        message_type="AdjustStock",
        reply_to="amq.rabbitmq.reply-to",
        correlation_id="42",
        user_id="guest",
    )
    await routed.until(lambda: monolith.got, "the command")
    from stranglerfig.facade.properties import short

    to = short(monolith.got[0].properties, "reply_to")
    assert to and to.startswith("amq.rabbitmq.reply-to.")
    monolith.put(to, b"!", correlation_id="42", delivery_mode=1)
    await routed.until(lambda: requester.got, "the answer")
    assert requester.got[0].body == b"!" and short(requester.got[0].properties, "correlation_id") == "42"


async def test_expiry_and_dead_lettering_keep_their_meaning(routed: Routed) -> None:
    dead = f"{routed.prefix}dead"
    await routed.declare(**{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
    requester, undertaker = await routed.party(), await routed.party()
    await requester.declare(dead)
    await undertaker.consume(dead)
    await routed.start()
    requester.put(f"{routed.prefix}in", b"late", message_type="AdjustStock", expiration="50", message_id="m1")
    await routed.until(lambda: undertaker.got, "the dead letter")
    from stranglerfig.facade.properties import header, short

    found = undertaker.got[0]
    assert found.body == b"late" and short(found.properties, "message_id") == "m1"
    assert header(found.properties, "x-first-death-queue") == f"{routed.prefix}mono"
    assert header(found.properties, "x-first-death-reason") == "expired"


async def test_types_go_where_they_are_led(routed: Routed) -> None:
    await routed.declare()
    requester, monolith, service = await routed.party(), await routed.party(), await routed.party()
    await monolith.consume(f"{routed.prefix}mono")
    await service.consume(f"{routed.prefix}svc")
    await routed.start()
    routed.side = "service"
    for kind in ("AdjustStock", "GetStock", "CreateInvoice", None):
        requester.put(f"{routed.prefix}in", str(kind).encode(), message_type=kind)
    await routed.until(lambda: len(monolith.got) + len(service.got) == 4, "all four")
    assert [content.body for content in service.got] == [b"AdjustStock", b"GetStock"]
    assert [content.body for content in monolith.got] == [b"CreateInvoice", b"None"]


async def test_order_and_number_survive_lost_connections(routed: Routed) -> None:
    await routed.declare()
    requester, monolith = await routed.party(), await routed.party()
    await monolith.consume(f"{routed.prefix}mono")
    await routed.start()
    sent = Commands(requester, f"{routed.prefix}in")
    for _ in range(6):
        sent.send(300)
        await asyncio.sleep(0.01)
        conn = routed.router._conn
        if conn is not None and conn._transport is not None:
            conn._transport.abort()  # as kill -9 looks to the broker
    await routed.until(lambda: len({content.body for content in monolith.got}) == sent.sent, "all commands")
    await routed.until(lambda: len(routed.router.lines) == 0, "the router to have nothing in hand")
    again = sent.check(monolith, doubled=True)
    assert again <= routed.router.counts["redelivered"]


@pytest.mark.parametrize("window", [1, 20])
async def test_what_finds_no_queue_waits_in_order_and_is_told(broker: RabbitMQ, window: int) -> None:
    routed = Routed(broker, f"w{window}.{uuid.uuid4().hex[:8]}.", window=window)
    try:
        await _finds_no_queue(routed)
    finally:
        await routed.stop()


async def _finds_no_queue(routed: Routed) -> None:
    await routed.declare()
    requester, monolith = await routed.party(), await routed.party()
    await routed.start()
    sent = Commands(requester, f"{routed.prefix}in")
    await requester.delete(f"{routed.prefix}mono")
    sent.send(100)
    await routed.until(lambda: routed.router.lines.failing() == sent.items, "each item's first command to be refused")
    assert "no such queue" in (routed.router.state()["alarm"] or "")
    await requester.declare(f"{routed.prefix}mono")
    await monolith.consume(f"{routed.prefix}mono")
    await routed.until(lambda: len(monolith.got) == 100, "all commands")
    sent.check(monolith)
    await routed.until(lambda: routed.router.state()["alarm"] is None, "the alarm to end")
    assert (await requester.conn.ready(f"{routed.prefix}in")) == 0


async def test_a_full_queue_holds_back_and_nothing_is_overtaken(routed: Routed) -> None:
    await routed.declare(**{"x-max-length": 10, "x-overflow": "reject-publish"})
    requester, monolith = await routed.party(), await routed.party()
    await routed.start()
    sent = Commands(requester, f"{routed.prefix}in", items=5)
    sent.send(60)
    await routed.until(lambda: routed.router.counts["failed"] > 0, "the queue to refuse")
    assert "refused it" in (routed.router.state()["alarm"] or "")
    await monolith.consume(f"{routed.prefix}mono", prefetch=1)
    await routed.until(lambda: len(monolith.got) == 60, "all commands", timeout=60)
    sent.check(monolith)


async def test_a_second_router_is_refused_and_takes_over_when_the_first_has_gone(routed: Routed) -> None:
    await routed.declare()
    await routed.start()
    second = QueueRouter(routed.plan, routed.broker.amqp, routed.where)
    with pytest.raises(FigError) as caught:
        await second.run()
    assert caught.value.code == "queue_taken" and f"{routed.prefix}mono" in caught.value.remedy
    assert routed.task is not None
    await tasks.stop(routed.task)
    begun = asyncio.Event()
    task = tasks.spawn(second.run(begun.set), name="second")
    assert await clock.signalled(begun, timeout=10)
    await tasks.stop(task)


async def test_a_missing_queue_and_a_missing_broker_are_told(routed: Routed) -> None:
    with pytest.raises(FigError) as caught:
        await routed.router.run()
    assert caught.value.code == "queue_missing" and "in'" in caught.value.message
    unknown = QueueRouter(routed.plan, "amqp://guest:secret@127.0.0.1:1/", routed.where)
    with pytest.raises(FigError) as caught:
        await unknown.run()
    assert caught.value.code == "broker_unreachable" and "secret" not in str(caught.value)
    wrong = QueueRouter(routed.plan, routed.broker.amqp.replace("guest:guest", "guest:wrong"), routed.where)
    with pytest.raises(FigError) as caught:
        await wrong.run()
    assert caught.value.code == "broker_unreachable"


async def test_a_deleted_inbound_queue_cuts_the_router_off(routed: Routed) -> None:
    await routed.declare()
    await routed.start()
    admin = await routed.party()
    await admin.delete(f"{routed.prefix}in")
    await routed.until(lambda: "no queue" in (routed.router.state()["alarm"] or ""), "the router to notice")
    await admin.declare(f"{routed.prefix}in")
    admin.put(f"{routed.prefix}in", b"x", message_type="AdjustStock")
    await admin.consume(f"{routed.prefix}mono")
    await routed.until(lambda: admin.got, "the router to be back")


async def test_without_a_key_the_whole_queue_keeps_its_order(routed: Routed) -> None:
    routed.plan = type(routed.plan)(**{**vars(routed.plan), "key": None})
    routed.router = QueueRouter(routed.plan, routed.broker.amqp, routed.where)
    await routed.declare()
    requester, monolith = await routed.party(), await routed.party()
    await monolith.consume(f"{routed.prefix}mono")
    await routed.start()
    Commands(requester, f"{routed.prefix}in").send(200)
    await routed.until(lambda: len(monolith.got) == 200, "all commands")
    assert [struct.unpack(">q", content.body)[0] for content in monolith.got] == list(range(200))


async def test_the_brokers_refusal_of_a_method_is_told(routed: Routed) -> None:
    from stranglerfig.facade.amqp import AmqpError

    party = await routed.party()
    channel = await party.conn.channel()
    with pytest.raises(AmqpError) as caught:
        await party.conn.call(channel, commands.Queue.Bind(queue="nobody", exchange="nowhere"))
    assert caught.value.code == 404
    with pytest.raises(AmqpError):
        await party.conn.call(channel, commands.Basic.Qos())
    assert await party.conn.ready("nobody") is None


async def test_a_router_that_is_ended_leaves_nothing_to_come_again(routed: Routed) -> None:
    await routed.declare()
    requester, monolith = await routed.party(), await routed.party()
    await monolith.consume(f"{routed.prefix}mono")
    sent = Commands(requester, f"{routed.prefix}in", items=50)
    for _ in range(3):
        sent.send(400)
        await routed.start()
        await routed.until(lambda: len(monolith.got) > sent.sent - 300, "some to have passed")
        assert routed.task is not None
        await tasks.stop(routed.task)
    await routed.start()
    await routed.until(lambda: len(monolith.got) == sent.sent, "the rest")
    sent.check(monolith)
