"""The router holds the stream: an engine killed in the middle is a pause, and the text is the undisturbed run's.

No coordinator is there, so what is seen is the router's own doing: its channel tells it of the death, the other engine
goes on. tests/e2e/test_failover.py does the same with a whole cluster.
"""

import signal

import pytest

from tests.e2e.cluster import wait_for
from tests.e2e.fleet import Fleet, stream_all

STREAMS = 32


@pytest.fixture(scope="module")
def fleet(tmp_path_factory, slow_model):
    fleet = Fleet(tmp_path_factory.mktemp("resume"), slow_model)
    yield fleet
    fleet.stop()


def asks(count, max_tokens):
    """Half greedy, half drawn with a seed; some share a prefix."""
    return [{"prompt": f"Story {i % 5} of the small fish: " + "they swim. " * (i % 4), "max_tokens": max_tokens,
             "temperature": 0 if i % 2 == 0 else 0.9, "seed": 100 + i, "ignore_eos": i % 8 != 0}
            for i in range(count)]


def busiest(fleet, streams, tokens_before=None, tokens=0):
    """The number of an engine that runs at least so many streams, once so many tokens were made."""
    def find():
        if tokens and fleet.metric("shoal_completion_tokens_total") < tokens_before + tokens:
            return None
        counts = {n: fleet.of_replica("shoal_replica_streams", n) or 0 for n in range(len(fleet.ports))}
        number = max(counts, key=counts.get)
        return (number,) if counts[number] >= streams else None

    return wait_for(f"{streams} streams on one engine", find, 30, 0.01)[0]


def kill_round(fleet, requests, expected, streams, mid_generation_min):
    """Kills the engine with so many streams; at least mid_generation_min of them had sent something."""
    resumed_before = fleet.metric("shoal_streams_resumed_total")
    tokens_before = fleet.metric("shoal_completion_tokens_total")
    victims = []

    def kill():
        victims.append(busiest(fleet, streams, tokens_before, 6 * len(requests)))
        fleet.kill(f"e{victims[0]}")

    assert stream_all(fleet, requests, kill) == expected
    assert fleet.metric("shoal_streams_resumed_total") - resumed_before >= mid_generation_min
    fleet.start_engine(victims[0])
    fleet.wait_serving(2)


def test_killed_engines_are_a_pause(fleet):
    requests = asks(STREAMS, 500)
    expected = stream_all(fleet, requests)
    assert {finish for _, finish in expected} <= {"stop", "length"}
    for _ in range(2):
        kill_round(fleet, requests, expected, 10, 10)


def test_a_stopped_engine_is_left_within_a_second(fleet):
    """SIGSTOP: no disconnect, only silence. Its late words after SIGCONT disturb nothing."""
    requests = asks(16, 900)
    expected = stream_all(fleet, requests)

    def stop():
        name = f"e{busiest(fleet, 4)}"
        fleet.kill(name, signal.SIGSTOP)
        try:
            wait_for("streams that went on elsewhere", lambda: fleet.health()["replicas_serving"] == 1, 5)
        finally:
            fleet.kill(name, signal.SIGCONT)

    assert stream_all(fleet, requests, stop) == expected
    fleet.wait_serving(2)


def test_all_engines_gone_for_a_while(fleet):
    """Streams wait, and go on when one comes back."""
    requests = asks(8, 900)
    expected = stream_all(fleet, requests)

    def kill_both():
        busiest(fleet, 4)
        fleet.kill("e0")
        fleet.kill("e1")
        wait_for("no replica", lambda: fleet.health()["replicas_serving"] == 0, 5)
        fleet.start_engine(1)

    assert stream_all(fleet, requests, kill_both) == expected
    fleet.start_engine(0)
    fleet.wait_serving(2)


def test_a_router_that_starts_alone_serves(fleet):
    """No coordinator anywhere: the view in its folder is enough."""
    expected = fleet.complete("abc", max_tokens=8, temperature=0).choices[0].text
    fleet.kill("r1")
    fleet.start_router()
    fleet.wait_serving(2)
    assert fleet.complete("abc", max_tokens=8, temperature=0).choices[0].text == expected


@pytest.mark.long
def test_the_real_model_survives_too(tmp_path_factory, demo_model):
    fleet = Fleet(tmp_path_factory.mktemp("demo"), demo_model, model_name="smollm2",
                  engine_options=("--pool-tokens", 16384))
    try:
        requests = asks(12, 48)
        expected = stream_all(fleet, requests)
        kill_round(fleet, requests, expected, 4, 2)
    finally:
        fleet.stop()
