"""A router and engines without coordinators: the router starts on a view that it finds in its state folder, as it does
when every coordinator is down. Real processes, real encryption; engines can be killed and started again.
"""

import asyncio
import concurrent.futures
import hashlib
import json
import random
import signal
import socket
import subprocess
import urllib.request

import openai

from tests.e2e.cluster import BIN, wait_for
from tests.support import curve, frames

KEYS = {"default": "sk-test-default", "other": "sk-test-other"}


def free_port():
    """A port below the range that the kernel deals to outgoing connections: one that is kept over an engine's death must
    not be taken by somebody's dial meanwhile."""
    while True:
        port = random.randrange(20000, 30000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Fleet:
    def __init__(self, folder, model, engines=2, model_name="tiny", engine_options=(), router_options=()):
        self.folder, self.model, self.model_name = folder, model, model_name
        self.engine_options, self.router_options = engine_options, router_options
        self.processes, self.clients = {}, {}
        self.ports = [free_port() for _ in range(engines)]
        self.router_port = free_port()
        self.url = f"http://127.0.0.1:{self.router_port}"
        self._write_keys()
        self._write_view()
        for number in range(engines):
            self.start_engine(number)
        self.start_router()
        self.wait_serving(engines)

    # ---- files

    def _write_keys(self):
        names = {"r1": "routers", "n1": "nodes"}
        absent = {"name": "c1", "endpoint": "tcp://127.0.0.1:1", "key": curve.keypair()[0], "raft_id": 1}
        members = {"cluster_id": "00" * 16, "coordinators": [absent], "routers": [], "nodes": [], "operators": []}
        for name, role in names.items():
            public, secret = curve.keypair()
            path = self.folder / f"{name}.key"
            path.write_text(json.dumps({"name": name, "public": public, "secret": secret}))
            path.chmod(0o600)
            members[role].append({"name": name, "key": public})
        self.node_key = members["nodes"][0]["key"]
        (self.folder / "members.json").write_text(json.dumps(members))

    def _write_view(self):
        replicas = [(f"{self.model_name}/{n}", self.model_name, 10 + n, f"tcp://127.0.0.1:{port}", self.node_key)
                    for n, port in enumerate(self.ports)]
        state = self.folder / "r1"
        state.mkdir(mode=0o700, exist_ok=True)
        (state / "view").write_bytes(frames.view(
            1, [(self.model_name, self.model)], replicas,
            [(tenant, hashlib.sha256(tenant.encode()).digest()) for tenant in KEYS],
            [(hashlib.blake2b(key.encode(), digest_size=32).digest(), tenant) for tenant, key in KEYS.items()]))

    # ---- processes

    def _start(self, name, *argv):
        with open(self.folder / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                [BIN / argv[0], *map(str, argv[1:])], stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def start_engine(self, number):
        self._start(f"e{number}", "shoal-engine", "--identity", self.folder / "n1.key", "--members",
                    self.folder / "members.json", "--model", self.model, "--model-name", self.model_name, "--replica",
                    f"{self.model_name}/{number}", "--epoch", 10 + number, "--threads", 1, "--listen",
                    f"tcp://127.0.0.1:{self.ports[number]}", *self.engine_options)

    def start_router(self):
        self._start("r1", "shoal-router", "--identity", self.folder / "r1.key", "--members",
                    self.folder / "members.json", "--state", self.folder / "r1", "--listen",
                    f"127.0.0.1:{self.router_port}", *self.router_options)

    def kill(self, name, number=signal.SIGKILL):
        process = self.processes[name]
        process.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            process.wait(20)

    def stop(self):
        for name, process in self.processes.items():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM if name == "r1" else signal.SIGKILL)
        codes = {name: process.wait(20) for name, process in self.processes.items()}
        assert codes["r1"] == 0, f"the router ended with {codes['r1']}\n{self.logs()}"

    def logs(self, lines=25):
        return "\n".join(f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
                         for path in sorted(self.folder.glob("*.log")))

    # ---- the router

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return answer.read().decode()

    def health(self):
        try:
            return json.loads(self.get("/health"))
        except OSError:
            return {}

    def wait_serving(self, count, timeout=60):
        def serving():
            failed = [name for name, process in self.processes.items() if (process.poll() or 0) > 0]
            assert not failed, f"ended with an error: {failed}"
            return self.health().get("replicas_serving") == count

        try:
            wait_for(f"{count} serving replicas", serving, timeout)
        except AssertionError as missing:
            raise AssertionError(f"{missing}\n{self.logs()}") from None

    def metrics(self):
        lines = [line for line in self.get("/metrics").splitlines() if line and not line.startswith("#")]
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines}

    def metric(self, name):
        return sum(value for series, value in self.metrics().items() if series.split("{")[0] == name)

    def of_replica(self, name, number):
        return self.metrics().get(f'{name}{{replica="{self.model_name}/{number}"}}')

    def client(self, tenant="default"):
        if tenant not in self.clients:
            self.clients[tenant] = openai.OpenAI(base_url=f"{self.url}/v1", api_key=KEYS.get(tenant, tenant),
                                                 max_retries=0, timeout=90)
        return self.clients[tenant]

    # ---- clients

    def complete(self, prompt, **options):
        return self.client().completions.create(model=self.model_name, prompt=prompt, **options)

    def stream_text(self, prompt, **options):
        """(text, finish_reason) of a streamed completion."""
        text, finish = "", None
        for chunk in self.client().completions.create(model=self.model_name, prompt=prompt, stream=True, **options):
            text += chunk.choices[0].text
            finish = chunk.choices[0].finish_reason or finish
        return text, finish


async def _post(fleet, body):
    """The raw answer to one request."""
    data = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", fleet.router_port, limit=1 << 24)
    writer.write(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer "
                 f"{KEYS['default']}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
    answer = await reader.read()
    writer.close()
    return answer


def _read_stream(answer):
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    lines = [line[6:] for line in answer.decode().splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]", lines[-1]
    choices = [json.loads(line)["choices"][0] for line in lines[:-1]]
    return "".join(choice["text"] for choice in choices), choices[-1]["finish_reason"]


def stream_all(fleet, requests, disturb=None):
    """(text, finish_reason) of all, streamed at once; disturb() runs beside them in a thread.

    Bytes are only collected while they come, and read afterwards: a client that parses dozens of streams in Python is
    slower than the engines, and would see their middle only after their end.
    """
    async def everything():
        bodies = [{"model": fleet.model_name, "stream": True, **request} for request in requests]
        tasks = [asyncio.create_task(_post(fleet, body)) for body in bodies]
        if disturb:
            await asyncio.get_running_loop().run_in_executor(None, disturb)
        return await asyncio.gather(*tasks)

    return [_read_stream(answer) for answer in asyncio.run(everything())]


def in_parallel(jobs, workers):
    """Results of callables, in order; the first exception is raised."""
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return [future.result() for future in [pool.submit(job) for job in jobs]]


