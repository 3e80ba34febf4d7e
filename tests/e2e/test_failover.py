"""The router holds the stream: whatever dies behind it, every stream ends normally, with the undisturbed run's text.

Each kill round asserts that the victim was in the middle of at least ten streams and that the router resumed as many.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import openai
import pytest

from tests.e2e.cluster import BIN, ROOT, Cluster, NotYet, wait_for

STREAMS = 50
BEGUN_MIN = 14  # streams with a token on the victim before it is killed: a few may end until the signal arrives
MID_GENERATION_MIN = 10


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A tiny model that is slow enough to be killed in the middle of: wider and deeper than the default."""
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    subprocess.run([sys.executable, ROOT / "tests/support/tiny_model.py", path, "--seed", "7", "--type", "Q8_0",
                    "--dim", "512", "--heads", "8", "--kv-heads", "4", "--head-dim", "64", "--ffn", "1024",
                    "--layers", "8"], check=True, stdout=subprocess.DEVNULL)
    return path


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, tiny):
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), tiny).up()
    yield cluster
    cluster.down()


def requests_of(cluster, count=STREAMS, max_tokens=160):
    """Half greedy, half sampled with a seed; prompts of different lengths, some of which share a prefix. Every fifth ends
    when the model says so, the others go on to max_tokens, so that most of them are under way at the same time."""
    for i in range(count):
        text = f"Story {i % 7} of the small fish: " + "they swim together. " * (i % 5)
        yield {"model": cluster.model_name, "prompt": text, "max_tokens": max_tokens, "stream": True,
               "temperature": 0 if i % 2 == 0 else 0.9, "seed": 1000 + i,
               "extra_body": {"ignore_eos": i % 5 != 0}}


class Run:
    """All streams at once; `texts` grow as they stream."""

    def __init__(self, cluster, requests):
        self.cluster, self.requests = cluster, list(requests)
        self.texts = [""] * len(self.requests)
        self.finish = [None] * len(self.requests)
        self.started = 0

    async def one(self, client, index):
        stream = await client.completions.create(**self.requests[index])
        async for chunk in stream:
            for choice in chunk.choices:
                if choice.text and not self.texts[index]:
                    self.started += 1
                self.texts[index] += choice.text or ""
                self.finish[index] = choice.finish_reason or self.finish[index]

    async def all(self, disturb=None):
        client = openai.AsyncOpenAI(base_url=self.cluster.url, api_key=self.cluster.api_key, max_retries=0, timeout=120)
        tasks = [asyncio.create_task(self.one(client, i)) for i in range(len(self.requests))]
        try:
            if disturb:
                await disturb(self, tasks)
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await client.close()
        return self


def run(cluster, requests, disturb=None):
    return asyncio.run(Run(cluster, requests).all(disturb))


@pytest.fixture(scope="module")
def undisturbed(cluster):
    cluster.ready(2)
    return run(cluster, requests_of(cluster))


async def until(what, check, timeout=30):
    deadline = asyncio.get_running_loop().time() + timeout
    while not check():
        if asyncio.get_running_loop().time() > deadline:
            raise NotYet(what)
        await asyncio.sleep(0.005)


def streams_of(cluster):
    """{node: streams in the middle of generation on its replica, by the router's own count}, from /metrics."""
    metrics = cluster.metrics()
    return {node: metrics.get(f'shoal_replica_own_begun{{replica="{cluster.replica_on(node)}"}}', 0)
            for node in ("n1", "n2")}


def victims(cluster, node, kind):
    engine, agent = cluster.engine(node), cluster.child(node)
    return {"engine": [engine], "agent": [agent], "both": [agent, engine]}[kind]


def kill_round(cluster, undisturbed, kind):
    """One round: once the streams are under way, kills on the node that has more of them; compares everything with the
    undisturbed run. What is under way, the router says: on a busy machine this client is slower than the engines."""
    cluster.ready(2)
    before = cluster.metric("shoal_streams_resumed_total")
    seen = {}

    async def disturb(round_, tasks):
        def under_way():
            seen["streams"] = streams_of(cluster)
            seen["node"] = max(seen["streams"], key=seen["streams"].get)
            return seen["streams"][seen["node"]] >= BEGUN_MIN

        await until("enough streams under way on a node", under_way)
        seen["engine"] = cluster.engine(seen["node"])
        for pid in victims(cluster, seen["node"], kind):
            os.kill(pid, signal.SIGKILL)

    disturbed = run(cluster, undisturbed.requests, disturb)
    resumed = cluster.metric("shoal_streams_resumed_total") - before
    assert disturbed.finish == undisturbed.finish
    assert disturbed.texts == undisturbed.texts
    assert seen["streams"][seen["node"]] >= MID_GENERATION_MIN, seen
    if kind == "agent":
        wait_for("the agent's successor", lambda: cluster.child(seen["node"]))
        assert cluster.engine(seen["node"]) == seen["engine"]  # an agent's death is not its engine's
    else:
        assert resumed >= MID_GENERATION_MIN, (resumed, seen)


KINDS = ["engine", "agent", "both"]


@pytest.mark.parametrize("kind", KINDS)
def test_streams_survive_a_killed_worker(cluster, undisturbed, kind):
    kill_round(cluster, undisturbed, kind)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
def test_streams_survive_twenty_rounds_of_kills(cluster, undisturbed, kind):
    for _ in range(20):
        kill_round(cluster, undisturbed, kind)


@pytest.fixture(scope="module")
def real_cluster(tmp_path_factory):
    model = os.environ.get("SHOAL_DEMO_MODEL")
    if not model:
        pytest.skip("the demo model is not here: tools/fetch-model")
    cluster = Cluster(tmp_path_factory.mktemp("real"), model, "--context", 1024).up()
    yield cluster
    cluster.down()


@pytest.fixture(scope="module")
def real_undisturbed(real_cluster):
    real_cluster.ready(2)
    return run(real_cluster, requests_of(real_cluster, max_tokens=48))


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", KINDS)
def test_streams_of_the_real_model_survive_kills(real_cluster, real_undisturbed, kind):
    """Two rounds of each kind on the demo model."""
    for _ in range(2):
        kill_round(real_cluster, real_undisturbed, kind)


def test_killed_leader_goes_unnoticed_and_is_replaced_within_a_second(cluster, undisturbed):
    cluster.ready(2)
    wait_for("three coordinators up",
             lambda: sum(r["state"] in ("leader", "follower") for r in cluster.rows("coordinator").values()) == 3)
    old = cluster.leader()
    before = cluster.metric("shoal_streams_resumed_total")
    took = {}

    async def disturb(round_, tasks):
        await until("most streams have begun", lambda: round_.started >= len(tasks) * 0.84)
        loop = asyncio.get_running_loop()
        os.kill(cluster.child(old), signal.SIGKILL)
        killed = loop.time()

        def new_leader():
            done = subprocess.run([BIN / "shoal", "status", "--dir", cluster.folder, "-o", "json", "--timeout", "1"],
                                  capture_output=True, text=True, stdin=subprocess.DEVNULL)
            return done.returncode == 0 and json.loads(done.stdout)["leader"] not in (old, "")

        while not await loop.run_in_executor(None, new_leader):
            assert loop.time() - killed < 10, "no new leader"
        took["leader_s"] = loop.time() - killed

    disturbed = run(cluster, undisturbed.requests, disturb)
    assert disturbed.texts == undisturbed.texts
    assert cluster.metric("shoal_streams_resumed_total") == before
    assert took["leader_s"] <= 1.0


def test_serving_goes_on_without_any_coordinator(cluster, undisturbed):
    """The supervisor is stopped meanwhile, so that it starts nothing again; streams and new requests are served, even by
    a router that starts during the outage: it has the last view on disk."""
    cluster.ready(2)
    supervisor = json.loads((cluster.folder / "supervisor.json").read_text())["pid"]
    os.kill(supervisor, signal.SIGSTOP)
    router = cluster.child("r1")
    command = Path(f"/proc/{router}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
    late = None
    try:
        for name in ("c1", "c2", "c3"):
            os.kill(cluster.child(name), signal.SIGKILL)
        served = run(cluster, undisturbed.requests)
        assert served.texts == undisturbed.texts
        assert cluster.shoal("status", "--timeout", 1, check=False).returncode == 4
        os.kill(router, signal.SIGKILL)
        with (cluster.folder / "logs/late-router.log").open("ab") as log:
            late = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for("the late router to serve", lambda: cluster.metric_or_none("shoal_replicas_serving") == 2)
        served = run(cluster, undisturbed.requests)
        assert served.texts == undisturbed.texts
    finally:
        if late is not None:
            late.kill()
            late.wait()
        os.kill(supervisor, signal.SIGCONT)
    wait_for("a leader again", cluster.leader)
    wait_for("the router again", lambda: cluster.metric_or_none("shoal_replicas_serving") == 2)
    cluster.ready(2)
