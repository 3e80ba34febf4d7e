"""`shoal chat` as a person uses it: at a terminal, through a pipe, and with one question."""

import json
import os
import pty
import select
import subprocess
import sys
import time

import pytest

from tests.e2e.cluster import BIN, ROOT, Cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    model = folder / "tiny.gguf"
    subprocess.run([sys.executable, ROOT / "tests/support/tiny_model.py", model, "--seed", "5"], check=True,
                   stdout=subprocess.DEVNULL)
    cluster = Cluster(folder / "cluster", model, "--nodes", 1, "--coordinators", 1).up()
    yield cluster
    cluster.down()


def api_answer(cluster, messages):
    """What the API says to the same conversation."""
    import openai
    client = openai.OpenAI(base_url=cluster.url, api_key=cluster.api_key, max_retries=0)
    answer = client.chat.completions.create(model=cluster.model_name, messages=messages, temperature=0, max_tokens=20)
    return answer.choices[0].message.content


def test_one_question(cluster):
    done = cluster.shoal("chat", "--max-tokens", 20, "Hello fish")
    assert done.stdout.removesuffix("\n") == api_answer(cluster, [{"role": "user", "content": "Hello fish"}])


def test_a_conversation_through_a_pipe_keeps_its_history(cluster):
    done = subprocess.run([BIN / "shoal", "chat", "--dir", cluster.folder, "--max-tokens", "20"],
                          input="Hello fish\nAnd now?\n", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    first = api_answer(cluster, [{"role": "user", "content": "Hello fish"}])
    second = api_answer(cluster, [{"role": "user", "content": "Hello fish"}, {"role": "assistant", "content": first},
                                  {"role": "user", "content": "And now?"}])
    assert done.stdout == f"{first}\n{second}\n"


class Terminal:
    """A child on a pseudo-terminal; reads until a text shows up."""

    def __init__(self, *command):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(command[0], [str(part) for part in command])
        self.seen = ""

    def until(self, text, timeout=30):
        deadline = time.monotonic() + timeout
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} did not come; seen: {self.seen!r}"
            if select.select([self.fd], [], [], left)[0]:
                try:
                    self.seen += os.read(self.fd, 4096).decode(errors="replace")
                except OSError:  # the child has ended
                    break
        before, _, self.seen = self.seen.partition(text)
        return before

    def type(self, text):
        os.write(self.fd, text.encode())

    def end(self):
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


def test_at_a_terminal(cluster):
    """A prompt, a streamed answer, /reset, and Ctrl-D to leave."""
    terminal = Terminal(str(BIN / "shoal"), "chat", "--dir", cluster.folder, "--max-tokens", "20")
    assert cluster.model_name in terminal.until("> ")
    terminal.type("Hello fish\n")
    expected = api_answer(cluster, [{"role": "user", "content": "Hello fish"}])
    shown = terminal.until("\r\n> ").replace("\r\n", "\n")
    assert shown.removeprefix("Hello fish\n").rstrip("\n") == expected.rstrip("\n")
    terminal.type("/reset\n")
    terminal.until("> ")
    terminal.type("\x04")
    assert terminal.end() == 0


def test_a_wrong_key_says_so(cluster):
    done = subprocess.run([BIN / "shoal", "chat", "--url", cluster.url, "--key", "sk-wrong", "--model", "m", "hi"],
                          capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and "401" in done.stderr, done


def test_client_file_is_what_a_client_needs(cluster):
    assert set(json.loads((cluster.folder / "client.json").read_text())) == {"url", "api_key", "model"}
