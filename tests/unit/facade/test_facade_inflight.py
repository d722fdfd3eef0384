"""Whether commands are in flight, from figures that lag behind: what counts as known."""

from __future__ import annotations

import itertools

from stranglerfig.facade.inflight import Drain, Figures, parse

TEXT = """\
# TYPE rabbitmq_detailed_queue_messages_ready gauge
rabbitmq_detailed_queue_messages_ready{vhost="/",queue="mono"} 3
rabbitmq_detailed_queue_messages_ready{vhost="other",queue="mono"} 9
rabbitmq_detailed_queue_messages_unacked{vhost="/",queue="mono"} 4
rabbitmq_detailed_queue_messages_unacked{vhost="other",queue="mono"} 9
rabbitmq_detailed_queue_messages_ready{vhost="/",queue="a \\"b\\" \\\\ c"} 1
rabbitmq_detailed_queue_messages_unacked{vhost="/",queue="a \\"b\\" \\\\ c"} 2
rabbitmq_detailed_queue_messages{vhost="/",queue="mono"} 7
"""


def test_the_figures_are_those_of_the_queue_and_its_vhost() -> None:
    assert parse(TEXT, "/", "mono") == Figures(3, 4)
    assert parse(TEXT, "other", "mono") == Figures(9, 9)
    assert parse(TEXT, "/", 'a "b" \\ c') == Figures(1, 2)
    assert parse(TEXT, "/", "else") is None


def test_a_zero_of_before_is_no_zero_of_now() -> None:
    drain = Drain()
    assert drain.see(Figures(0, 0)) == "probe"
    assert drain.see(Figures(0, 0)) == "wait"
    assert drain.see(None) == "wait"
    assert drain.see(Figures(0, 4)) == "take"
    assert drain.see(Figures(0, 3)) == "wait"
    assert drain.see(Figures(1, 0)) == "wait", "given back: it is ready again"
    assert drain.see(Figures(0, 0)) == "none"


def test_figures_that_fall_to_zero_are_of_now() -> None:
    drain = Drain()
    assert drain.see(Figures(2, 2)) == "wait"
    assert drain.see(Figures(0, 1)) == "wait"
    assert drain.see(Figures(0, 0)) == "none"
    assert Drain().see(None) == "probe"


def test_no_lag_of_the_figures_makes_it_say_none_too_early() -> None:
    """Every way in which a queue's figures can be told late: ``none`` is said only when nothing is in flight."""
    for unacked, first, looks in itertools.product(range(3), range(3), itertools.product((False, True), repeat=7)):
        drain, told, probes, left = Drain(), first, 0, unacked
        for number, emits in enumerate(looks):
            if number == 4:
                left = 0  # the consumer is done at last
            if emits:
                told = left + probes
            match drain.see(Figures(0, told)):
                case "probe":
                    probes = 1
                case "take":
                    probes = 0
                case "none":
                    assert left == 0, (unacked, first, looks)
                    break
