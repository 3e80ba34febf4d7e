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

from tests.e2e.cluster import BIN

TIMEOUT_S = 600


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
        for step, margin in enumerate([*self.margins, 0.0]):
            if margin < tolerance:
                if step > begin:
                    yield begin, step
                begin = step + 1


def compare(model, goldens, tolerance, *options, environment=None, **fields):
    """Asserts that every step that isn't doubtful gives the reference's id; returns how many were compared. `fields`
    go into each line."""
    pieces = [(golden, begin, end) for golden in goldens for begin, end in golden.segments(tolerance)]
    lines = [{"id": i, "ids": golden.prompt_ids + golden.ids[:begin], "max_tokens": end - begin, **fields}
             for i, (golden, begin, end) in enumerate(pieces)]
    answers = run_lines(model, lines, "--temperature", 0, *options, environment=environment)
    for (golden, begin, end), answer in zip(pieces, answers):
        assert "error" not in answer, (golden.name, answer)
        got, want = answer["ids"], golden.ids[begin:end]
        wrong = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
        assert got == want, (f"{model}: {golden.name}, step {begin + wrong}: {got[wrong : wrong + 1]}, not "
                             f"{want[wrong : wrong + 1]} at a margin of {golden.margins[begin + wrong]}")
        stopped = golden.stopped and end == len(golden.ids)
        assert answer["finish_reason"] == ("stop" if stopped else "length"), (golden.name, begin, end, answer)
    return sum(end - begin for _, begin, end in pieces)
