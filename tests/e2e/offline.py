"""`shoal run` under test: requests as JSON lines in, answers out; and the comparison of greedy ids with a reference.

Two sound computations of one model may choose differently where the reference's two highest logits lie closer together
than their arithmetics differ, and from there on every id is another. So a reference's run is cut behind each of its
doubtful steps (margin below the tolerance), and the engine goes on from the reference's own ids at each cut: every
step but the doubtful ones is compared, not only those before the first doubt.
"""

import dataclasses
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.cluster import BIN, ROOT

TIMEOUT_S = 600


def shared(name):
    """A path in the shared data, which a user doesn't have: the test is skipped then."""
    path = Path(os.environ.get("SHOAL_SHARED_DATA") or ROOT.parent / "shared/data") / name
    if not path.exists():
        pytest.skip("no shared data here (set SHOAL_SHARED_DATA)")
    return path


def read_jsonl(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def shoal_run(model, *options, lines=None, text=None, environment=None, timeout=TIMEOUT_S):
    """The finished process. `lines`: objects (or raw strings) that go in as JSON lines."""
    if lines is not None:
        options = ("--jsonl", *options)
        text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    return subprocess.run([BIN / "shoal", "run", *map(str, options), str(model)], input=text or "",
                          capture_output=True, text=True, timeout=timeout, env={**os.environ, **(environment or {})})


def run_lines(model, lines, *options, environment=None):
    """The answers, one a line in the lines' order."""
    done = shoal_run(model, *options, lines=lines, environment=environment)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stderr}\n{done.stdout[-2000:]}"
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["id"] for answer in answers] == [line["id"] for line in lines]
    return answers


@dataclasses.dataclass
class Golden:
    """What a reference chose, greedily, and by which margins."""

    name: str
    prompt_ids: list
    ids: list
    margins: list
    stopped: bool  # the last id is an end id

    def segments(self, tolerance):
        """[begin, end) of the runs of steps without a doubtful one."""
        begin = 0
        for step, margin in enumerate([*self.margins, float("-inf")]):
            if margin < tolerance:
                if step > begin:
                    yield begin, step
                begin = step + 1


def differences(model, goldens, tolerance, *options, environment=None, **fields):
    """Runs every step that isn't doubtful. Returns how many that were, and the (golden, step, got) that differ from the
    reference; behind each of them the engine goes on from the reference's ids. `fields` go into each line."""
    pieces = [(golden, begin, end) for golden in goldens for begin, end in golden.segments(tolerance)]
    steps, found = sum(end - begin for _, begin, end in pieces), []
    while pieces:
        lines = [{"id": i, "ids": golden.prompt_ids + golden.ids[:begin], "max_tokens": end - begin, **fields}
                 for i, (golden, begin, end) in enumerate(pieces)]
        answers, rest = run_lines(model, lines, "--temperature", 0, *options, environment=environment), []
        for (golden, begin, end), answer in zip(pieces, answers):
            assert "error" not in answer, (golden.name, answer)
            got, want = answer["ids"], golden.ids[begin:end]
            if got == want:
                stopped = golden.stopped and end == len(golden.ids)
                assert answer["finish_reason"] == ("stop" if stopped else "length"), (golden.name, begin, end, answer)
                continue
            wrong = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
            assert wrong < len(want), (golden.name, begin, end, answer)
            found.append((golden, begin + wrong, got[wrong : wrong + 1]))
            if begin + wrong + 1 < end:
                rest.append((golden, begin + wrong + 1, end))
        pieces = rest
    return steps, found


def compare(model, goldens, tolerance, *options, environment=None, **fields):
    """Asserts that every step that isn't doubtful gives the reference's id; returns how many were compared."""
    steps, found = differences(model, goldens, tolerance, *options, environment=environment, **fields)
    assert not found, f"{model}: {len(found)} of {steps} steps differ:\n" + "\n".join(
        f"{golden.name}, step {step}: {got}, not {golden.ids[step]} at a margin of {golden.margins[step]}"
        for golden, step, got in found[:5])
    return steps
