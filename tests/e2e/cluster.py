"""A whole cluster under test: `shoal up` in a folder of its own, real processes, and the means to hurt them.

Nothing here waits by sleeping through a guess: every wait looks for a state until a deadline and then says what was
missing. Processes are found through the files that the programs themselves keep (children.json, agent.json).
"""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("SHOAL_BIN", ROOT / "build/release/bin"))
PATIENCE = float(os.environ.get("SHOAL_TEST_PATIENCE", "1"))  # builds with sanitizers are several times as slow


class NotYet(AssertionError):
    pass


def wait_for(what, check, timeout=30.0, every=0.05):
    """The first true value of check(); NotYet, naming `what`, when the deadline passes."""
    timeout *= PATIENCE
    deadline = time.monotonic() + timeout
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise NotYet(f"after {timeout:.0f} s still not: {what}")
        time.sleep(every)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Cluster:
    def __init__(self, folder, model, *options):
        self.folder = Path(folder)
        self.model = Path(model)
        self.options = [str(option) for option in options]

    # ---- the operator's commands

    def shoal(self, command, *args, check=True, timeout=120):
        done = subprocess.run(
            [BIN / "shoal", command, "--dir", self.folder, *map(str, args)],
            capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
        if check:
            assert done.returncode == 0, f"shoal {command}: exit {done.returncode}\n{done.stderr}\n{self.logs()}"
        return done

    def up(self, *more):
        """Starts it; a cluster that does not come up leaves nothing running behind."""
        try:
            self.shoal("up", "--model", self.model, *self.options, *more)
        except BaseException:
            self.shoal("down", check=False)
            raise
        self.client_file = json.loads((self.folder / "client.json").read_text())
        self.url, self.api_key, self.model_name = (self.client_file[k] for k in ("url", "api_key", "model"))
        return self

    def down(self):
        self.shoal("down")

    def status(self, timeout=3):
        done = self.shoal("status", "-o", "json", "--timeout", timeout, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def rows(self, role):
        status = self.status()
        return {row["name"]: row for row in status["rows"] if row["role"] == role} if status else {}

    def leader(self):
        status = self.status()
        return status["leader"] if status else None

    def logs(self, lines=15):
        parts = []
        for path in sorted([*self.folder.glob("logs/*.log"), *self.folder.glob("*/jobs/*/engine.log")]):
            tail = path.read_text(errors="replace").splitlines()[-lines:]
            parts.append(f"--- {path.relative_to(self.folder)}\n" + "\n".join(tail))
        return "\n".join(parts)

    # ---- processes

    def child(self, name):
        """Pid of a coordinator, router or agent by its name; None while it is not running."""
        try:
            children = json.loads((self.folder / "children.json").read_text())
        except FileNotFoundError:
            return None
        pid = children.get(name, {}).get("pid")
        return pid if pid and is_alive(pid) else None

    def engine(self, node):
        """Pid of the (only) engine of a node; None while there is none."""
        try:
            engines = json.loads((self.folder / node / "agent.json").read_text())["engines"]
        except FileNotFoundError:
            return None
        pids = [engine["pid"] for engine in engines if engine["pid"] and is_alive(engine["pid"])]
        return pids[0] if pids else None

    def kill(self, pid, number=signal.SIGKILL):
        os.kill(pid, number)
        if number == signal.SIGKILL:
            wait_for(f"the end of process {pid}", lambda: not is_alive(pid))

    def replica_on(self, node):
        agent = json.loads((self.folder / node / "agent.json").read_text())
        return next((e["running"]["replica"] for e in agent["engines"] if e["pid"]), None)

    def ready(self, count, timeout=60):
        def ready_rows():
            rows = [row for row in self.rows("replica").values() if row["state"] == "ready"]
            return rows if len(rows) >= count else None

        try:
            return wait_for(f"{count} ready replicas", ready_rows, timeout)
        except NotYet as missing:
            raise NotYet(f"{missing}\n{json.dumps(self.status(), indent=1)}\n{self.logs()}") from None

    # ---- the router

    def get(self, path, base=None):
        url = (base or self.url.removesuffix("/v1")) + path
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self.api_key}"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()

    def metrics(self):
        """{series: value} of the router's /metrics."""
        status, text = self.get("/metrics")
        assert status == 200, text
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
                for line in text.splitlines() if line and not line.startswith("#")}

    def metric_or_none(self, name):
        """None while the router does not answer."""
        try:
            return self.metric(name)
        except OSError:
            return None

    def metric(self, name):
        return sum(value for series, value in self.metrics().items() if series.split("{")[0] == name)
