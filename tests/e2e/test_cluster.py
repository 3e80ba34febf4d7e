"""A cluster's life: up, status, up again, a node's death and its replica's move, down."""

import json
import os
import signal
import stat
import subprocess
import sys

import pytest

from tests.e2e.cluster import BIN, ROOT, Cluster, is_alive, wait_for


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    subprocess.run([sys.executable, ROOT / "tests/support/tiny_model.py", path, "--seed", "3", "--type", "Q8_0"],
                   check=True, stdout=subprocess.DEVNULL)
    return path


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, tiny):
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), tiny, "--nodes", 3, "--replicas", 2).up()
    yield cluster
    cluster.down()


def test_status_shows_every_process(cluster):
    rows = cluster.status()["rows"]
    assert [row["name"] for row in rows if row["role"] == "coordinator"] == ["c1", "c2", "c3"]
    assert [row["state"] for row in rows if row["role"] == "coordinator"].count("leader") == 1
    assert [row["name"] for row in rows if row["role"] == "node"] == ["n1", "n2", "n3"]
    wait_for("the router in the table", lambda: "r1" in cluster.rows("router"))
    assert sorted(cluster.rows("replica")) == [f"{cluster.model_name}/1", f"{cluster.model_name}/2"]
    table = cluster.shoal("status").stdout.splitlines()
    assert table[0].split() == ["ROLE", "NAME", "ADDR", "STATE", "MODEL", "KV%", "REQS"]


def test_up_again_changes_nothing_and_shows_the_key_again(cluster):
    pids = {name: cluster.child(name) for name in ("c1", "c2", "c3", "r1", "n1", "n2", "n3")}
    done = cluster.shoal("up", "--model", cluster.model)
    assert cluster.api_key in done.stdout
    assert pids == {name: cluster.child(name) for name in pids}
    assert stat.S_IMODE((cluster.folder / "client.json").stat().st_mode) == 0o600


def test_up_again_starts_what_is_missing(cluster):
    old = cluster.child("r1")
    os.kill(old, signal.SIGKILL)
    cluster.shoal("up", "--model", cluster.model)
    assert cluster.child("r1") not in (None, old)
    assert cluster.get("/v1/models")[0] == 200


def test_models_lists_the_model(cluster):
    models = json.loads(cluster.shoal("models", "-o", "json").stdout)
    assert models == [{"model": cluster.model_name, "ready": 2, "replicas": 2}]


def test_agent_adopts_its_engine_after_its_own_death(cluster):
    cluster.ready(2)
    node = next(n for n in ("n1", "n2", "n3") if cluster.engine(n))
    engine, agent = cluster.engine(node), cluster.child(node)
    epochs = {name: row["address"] for name, row in cluster.rows("replica").items()}
    cluster.kill(agent)
    wait_for("a new agent", lambda: cluster.child(node) not in (None, agent))
    cluster.ready(2)
    assert cluster.engine(node) == engine and is_alive(engine)
    assert {name: row["address"] for name, row in cluster.rows("replica").items()} == epochs


def test_replica_of_a_dead_node_moves_to_the_spare_one(cluster):
    """Agent and engine are killed and held down (the supervisor is stopped), as if the machine were gone."""
    cluster.ready(2)
    node = next(n for n in ("n1", "n2", "n3") if cluster.engine(n))
    spare = next(n for n in ("n1", "n2", "n3") if not cluster.engine(n))
    replica = cluster.replica_on(node)
    supervisor = json.loads((cluster.folder / "supervisor.json").read_text())["pid"]
    os.kill(supervisor, signal.SIGSTOP)
    try:
        engine = cluster.engine(node)
        os.kill(cluster.child(node), signal.SIGKILL)
        os.kill(engine, signal.SIGKILL)
        wait_for(f"{node} down", lambda: cluster.rows("node").get(node, {}).get("state") == "down")
        wait_for(f"{replica} on {spare}", lambda: cluster.engine(spare))
        cluster.ready(2)
        assert cluster.replica_on(spare) == replica
    finally:
        os.kill(supervisor, signal.SIGCONT)
    wait_for(f"{node} up again", lambda: cluster.rows("node").get(node, {}).get("state") == "up")
    wait_for(f"nothing on {node}: what moved does not move back", lambda: cluster.engine(node) is None)
    assert cluster.replica_on(spare) == replica


def test_stopped_engine_is_fenced_and_started_again(cluster):
    cluster.ready(2)
    node = next(n for n in ("n1", "n2", "n3") if cluster.engine(n))
    engine = cluster.engine(node)
    os.kill(engine, signal.SIGSTOP)
    wait_for("another engine process", lambda: cluster.engine(node) not in (None, engine), timeout=30)
    assert not is_alive(engine)
    cluster.ready(2)


def test_unreachable_cluster_is_exit_code_4(tmp_path, tiny):
    lonely = Cluster(tmp_path / "none", tiny)
    assert lonely.shoal("chat", "hello", check=False).returncode == 4


def test_down_ends_everything(tmp_path, tiny):
    cluster = Cluster(tmp_path / "cluster", tiny, "--nodes", 1, "--coordinators", 1).up()
    pids = [cluster.child(name) for name in ("c1", "r1", "n1")] + [cluster.engine("n1")]
    assert all(pids)
    cluster.down()
    assert not any(map(is_alive, pids))
    cluster.down()  # twice is fine
    cluster.up()    # and up again serves from the same state
    cluster.down()


def test_ports_in_use_are_avoided(tmp_path, tiny, cluster):
    """Another cluster's ports are taken: a second one finds free ones."""
    other = Cluster(tmp_path / "other", tiny, "--nodes", 1, "--coordinators", 1).up()
    try:
        assert other.url != cluster.url
        assert other.get("/v1/models")[0] == 200
    finally:
        other.down()


def test_help_and_usage(tmp_path):
    for command in ("up", "down", "status", "chat", "run", "models", "version"):
        done = subprocess.run([BIN / "shoal", command, "--help"], capture_output=True, text=True)
        assert done.returncode == 0 and "Usage" in done.stdout or "usage" in done.stdout, done
        wrong = subprocess.run([BIN / "shoal", command, "--no-such-option"], capture_output=True, text=True)
        assert wrong.returncode == 2, (command, wrong)
    assert subprocess.run([BIN / "shoal", "no-such-command"], capture_output=True).returncode == 2
