"""What `shoal run` promises: JSON lines in order and batched, seeds that count, stop strings, plain refusals."""

import json
import os
import shutil
import struct
import subprocess
import sys

import pytest

from tests.e2e.cluster import BIN, ROOT
from tests.e2e.offline import TIMEOUT_S, run_lines, shoal_run

sys.path.insert(0, str(ROOT / "tests/support"))
from tiny_model import EOS, Shape, TinyModel  # noqa: E402

PROMPT = "The small fish swim together"
PATHS = ["c", "avx2", "avx512"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Hugging Face folder; made once, so don't change it."""
    folder = tmp_path_factory.mktemp("model") / "tiny-hf"
    TinyModel(3).write(folder, "F32")
    return folder


def refused(done, *parts):
    """Exit code 1, nothing on standard output, and one line that says all of this."""
    assert done.returncode == 1 and done.stdout == "", done
    assert done.stderr.startswith("shoal run: ") and done.stderr.count("\n") == 1, done.stderr
    for part in parts:
        assert str(part) in done.stderr, done.stderr


# Lines ----------------------------------------------------------------------------------------------------------------


def test_an_answer_has_four_fields(tiny_model):
    (answer,) = run_lines(tiny_model, [{"id": "a", "prompt": PROMPT, "max_tokens": 5, "ignore_eos": True}])
    assert list(answer) == ["id", "ids", "text", "finish_reason"]
    assert len(answer["ids"]) == 5 and answer["finish_reason"] == "length" and isinstance(answer["text"], str)


def test_answers_come_in_the_order_of_the_lines(tiny_model):
    """Far more lines than run at once, and the first ones take longest."""
    lines = [{"id": n, "prompt": PROMPT, "temperature": 1, "seed": n, "ignore_eos": True,
              "max_tokens": 1 + (700 - n) // 30} for n in range(700)]
    for line, answer in zip(lines, run_lines(tiny_model, lines)):
        assert len(answer["ids"]) == line["max_tokens"]


def test_any_id_comes_back_as_it_was(tiny_model):
    ids = [1, "zwei", None, [3, {"four": 5.5}], {"x": "\u00e4\n"}, True, "", 2**53 - 1]
    lines = [{"id": i, "prompt": "a", "max_tokens": 1} for i in ids]
    assert [answer["id"] for answer in run_lines(tiny_model, lines)] == ids
    done = shoal_run(tiny_model, lines=[{"prompt": "a", "max_tokens": 1}])
    assert json.loads(done.stdout)["id"] is None


def test_a_line_is_answered_while_the_input_is_open(tiny_model):
    with subprocess.Popen([BIN / "shoal", "run", "--jsonl", tiny_model], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as process:
        for n in range(3):
            process.stdin.write(json.dumps({"id": n, "prompt": PROMPT, "max_tokens": 4}) + "\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["id"] == n
        process.stdin.close()
        assert process.wait(30) == 0


def test_line_ends(tiny_model):
    """Blank lines are nothing, a carriage return belongs to the end, and the last line needs none."""
    text = '\n{"id": 1, "prompt": "a"}\r\n  \t\n{"id": 2, "prompt": "a"}'
    done = shoal_run(tiny_model, "--jsonl", "--max-tokens", 3, text=text)
    assert done.returncode == 0 and [json.loads(line)["id"] for line in done.stdout.splitlines()] == [1, 2]
    nothing = shoal_run(tiny_model, "--jsonl", text="")
    assert nothing.returncode == 0 and nothing.stdout == ""


def test_lines_from_a_file(tiny_model, tmp_path):
    file = tmp_path / "in.jsonl"
    file.write_text('{"id": 1, "prompt": "a", "max_tokens": 3}\n')
    done = shoal_run(tiny_model, "--jsonl", "--input", file)
    assert done.returncode == 0 and json.loads(done.stdout)["id"] == 1
    refused(shoal_run(tiny_model, "--jsonl", "--input", tmp_path / "none.jsonl"), "none.jsonl")


def test_prompt_ids_and_messages_are_three_ways_to_say_it(folder):
    import tokenizers

    encode = lambda text: tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    chat = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    lines = [{"id": 0, "prompt": PROMPT}, {"id": 1, "ids": encode(PROMPT)}, {"id": 2, "ids": encode(chat)},
             {"id": 3, "messages": [{"role": "user", "content": "hello"}]}]
    a, b, c, d = run_lines(folder, lines, "--max-tokens", 40, "--temperature", 1)
    assert a["ids"] == b["ids"] and a["text"] == b["text"]
    assert c["ids"] == d["ids"] and a["ids"] != c["ids"]


# Sampling -------------------------------------------------------------------------------------------------------------


def test_seeds_reproduce_and_matter(tiny_model):
    lines = [{"id": n, "prompt": PROMPT, "temperature": 1, "seed": n % 10, "max_tokens": 30} for n in range(20)]
    first, second = run_lines(tiny_model, lines), run_lines(tiny_model, lines)
    assert first == second
    assert [answer["ids"] for answer in first[:10]] == [answer["ids"] for answer in first[10:]]
    assert len({tuple(answer["ids"]) for answer in first}) == 10
    seeds = [-1, 2**63 - 1, -(2**63)]
    lines = [{"id": n, "prompt": PROMPT, "temperature": 1, "seed": seed} for n, seed in enumerate(seeds)]
    assert len({tuple(answer["ids"]) for answer in run_lines(tiny_model, lines)}) == 3


@pytest.mark.parametrize("kind", ["F32", "Q4_1"])
def test_a_batch_of_32_gives_what_each_gives_alone(tmp_path, kind):
    """Prompts and limits of all lengths, greedy and by chance: who else is in the batch changes nothing."""
    TinyModel(9).write(tmp_path / "m.gguf", kind)
    lines = [{"id": n, "prompt": PROMPT[: n % 9] + " and the water" * (n % 13), "temperature": n % 4 / 2,
              "top_k": [0, 0, 40][n % 3], "top_p": [1.0, 0.95][n % 2], "min_p": [0, 0, 0, 0, 0.02][n % 5], "seed": n,
              "max_tokens": 20 + 3 * n, "ignore_eos": n % 2 == 0} for n in range(1, 33)]
    together = run_lines(tmp_path / "m.gguf", lines)
    for line, answer in zip(lines, together):
        assert run_lines(tmp_path / "m.gguf", [line]) == [answer]
    assert run_lines(tmp_path / "m.gguf", lines[::-1], "--threads", 1) == together[::-1]


def test_a_small_pool_changes_nothing(tiny_model):
    """Streams wait and are preempted when the pool is dry; each still ends with the same ids."""
    lines = [{"id": n, "prompt": PROMPT, "temperature": 1, "seed": n, "max_tokens": 150, "ignore_eos": True}
             for n in range(24)]
    assert run_lines(tiny_model, lines, "--context", 256, "--pool-tokens", 512) == run_lines(tiny_model, lines)


def test_narrow_sampling_is_greedy(tiny_model):
    greedy = run_lines(tiny_model, [{"id": 0, "prompt": PROMPT, "max_tokens": 40}])[0]
    narrow = [{"id": n, "prompt": PROMPT, "max_tokens": 40, "temperature": 1, "seed": n, **one}
              for n, one in enumerate([{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 0.999999}, {"temperature": 1e-4}])]
    for answer in run_lines(tiny_model, narrow):
        assert answer["ids"] == greedy["ids"], answer["id"]


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q4_0", "Q4_1"])
def test_every_path_of_kernels_gives_the_same_ids(tmp_path, kind):
    """One class: the paths of this machine, chosen by environment or option, agree to the bit. Sizes with tails."""
    path = tmp_path / "m.gguf"
    TinyModel(10, Shape(dim=96, heads=6, kv_heads=2, head_dim=20, ffn=160, padding=3)).write(path, kind)
    lines = [{"id": n, "prompt": PROMPT * (1 + n % 3), "temperature": n % 3 / 2, "seed": n, "max_tokens": 40,
              "ignore_eos": True} for n in range(12)]
    want, compared = run_lines(path, lines, environment={"SHOAL_CPU": "c"}), []
    for name in PATHS[1:]:
        done = shoal_run(path, lines=lines, environment={"SHOAL_CPU": name})
        if done.returncode != 0:
            refused(done, name)
            continue
        assert [json.loads(line) for line in done.stdout.splitlines()] == want, name
        assert run_lines(path, lines, "--cpu", name) == want
        compared.append(name)
    flags = next((line for line in open("/proc/cpuinfo") if line.startswith("flags")), "").split()
    assert ("avx2" in compared) == {"avx2", "fma", "f16c"}.issubset(flags)


def test_the_path_that_was_asked_for_is_taken(tiny_model):
    for options, environment in ((("--cpu", "c"), {}), ((), {"SHOAL_CPU": "c"})):
        done = shoal_run(tiny_model, "--stats", "--max-tokens", 2, *options, "--raw", text="a", environment=environment)
        assert done.returncode == 0 and done.stderr.rstrip().endswith("kernels c"), done
    refused(shoal_run(tiny_model, "--cpu", "z80", text="a"), "z80")
    refused(shoal_run(tiny_model, text="a", environment={"SHOAL_CPU": "z80"}), "z80")


# Ends -----------------------------------------------------------------------------------------------------------------


def test_an_end_id_is_the_last_one_and_no_text(tiny_model):
    lines = [{"id": n, "prompt": PROMPT, "temperature": 1, "seed": n, "max_tokens": 400} for n in range(8)]
    stopped = [answer for answer in run_lines(tiny_model, lines) if answer["finish_reason"] == "stop"]
    assert stopped
    for answer in stopped:
        assert answer["ids"][-1] == EOS and EOS not in answer["ids"][:-1] and "<|im_end|>" not in answer["text"]
    on = run_lines(tiny_model, [{**lines[answer["id"]], "ignore_eos": True} for answer in stopped])
    for short, long in zip(stopped, on):
        assert long["finish_reason"] == "length" and len(long["ids"]) == 400
        assert long["ids"][: len(short["ids"])] == short["ids"]


def test_stop_strings_end_the_text_before_them(tiny_model):
    """Every pair of neighbouring characters of a text, wherever the tokens' borders lie."""
    ask = {"prompt": PROMPT, "temperature": 1, "max_tokens": 50, "ignore_eos": True}
    whole = run_lines(tiny_model, [{"id": 0, **ask}])[0]
    text = whole["text"]
    stops = sorted({text[i : i + 2] for i in range(len(text) - 1) if "\ufffd" not in text[i : i + 2]})
    assert len(stops) > 20
    shorter = [{"id": n, **ask, "max_tokens": n} for n in range(1, 51)]
    cut = [answer["text"] for answer in run_lines(tiny_model, shorter)]
    lines = [{"id": n, **ask, "stop": stop} for n, stop in enumerate(stops)]
    for stop, answer in zip(stops, run_lines(tiny_model, lines)):
        assert answer["text"] == text[: text.index(stop)], stop
        assert answer["finish_reason"] == "stop"
        # Not one token more than the stop string takes.
        assert answer["ids"] == whole["ids"][: 1 + next(n for n, part in enumerate(cut) if stop in part)], stop
    # Several: the one that is complete first counts; none: the text is whole. --stop is for lines that name none.
    a, b, c = stops[3], stops[-3], "never seen in any text"
    lines = [{"id": 0, "stop": [a, b, c]}, {"id": 1, "stop": [c]}, {"id": 2}, {"id": 3, "stop": []}]
    lines = [{**line, **ask} for line in lines]
    both, none, option, empty = run_lines(tiny_model, lines, "--stop", a)
    assert both["text"] == text[: min(text.index(a), text.index(b))]
    assert none["text"] == empty["text"] == text and none["finish_reason"] == "length"
    assert option["text"] == text[: text.index(a)]


def test_stop_ids_end_a_stream(tiny_model):
    ask = {"prompt": PROMPT, "temperature": 1, "max_tokens": 50, "ignore_eos": True}
    whole = run_lines(tiny_model, [{"id": 0, **ask}])[0]
    wanted = whole["ids"][20]
    first = whole["ids"].index(wanted)
    answer = run_lines(tiny_model, [{"id": 0, **ask, "stop_ids": [wanted, 5]}])[0]
    if 5 not in whole["ids"][:first]:
        assert answer["ids"] == whole["ids"][: first + 1]
    assert answer["finish_reason"] == "stop" and whole["text"].startswith(answer["text"])


def test_limits(tiny_model):
    """The context is prompt and answer together; a default limit is cut to fit, one that was asked for is refused."""
    lines = [{"id": 0, "ids": [7] * 100, "max_tokens": 28}, {"id": 1, "ids": [7] * 100}, {"id": 2, "ids": [7] * 127}]
    answers = run_lines(tiny_model, lines, "--context", 128, "--ignore-eos")
    assert [len(answer["ids"]) for answer in answers] == [28, 28, 1]
    done = shoal_run(tiny_model, "--context", 128, lines=[{"id": 0, "ids": [7] * 100, "max_tokens": 29},
                                                          {"id": 1, "ids": [7] * 128}, {"id": 2, "ids": [7]}])
    long, full, fine = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 1 and "128" in long["error"] and "128" in full["error"] and "ids" in fine


# A single prompt ------------------------------------------------------------------------------------------------------


def test_one_prompt_as_text_and_as_json(tiny_model):
    chat = {"id": 0, "messages": [{"role": "system", "content": "Hm."}, {"role": "user", "content": PROMPT}]}
    raw = {"id": 1, "prompt": PROMPT}
    of_chat, of_raw = run_lines(tiny_model, [chat, raw], "--max-tokens", 30, "--temperature", 1, "--seed", 4)
    common = ("--max-tokens", 30, "--temperature", 1, "--seed", 4)

    def one(*options, text=None, prompt=PROMPT):
        done = subprocess.run([BIN / "shoal", "run", *map(str, [*common, *options]), tiny_model,
                               *([prompt] if prompt else [])], input=text, capture_output=True, timeout=TIMEOUT_S)
        assert done.returncode == 0, done
        return done.stdout.decode()

    assert one("--system", "Hm.") == of_chat["text"] + "\n"
    assert one("--raw") == of_raw["text"] + "\n"
    assert one("--raw", prompt=None, text=(PROMPT + "\n").encode()) == of_raw["text"] + "\n"
    assert json.loads(one("--raw", "-o", "json")) == {key: of_raw[key] for key in ("ids", "text", "finish_reason")}


# Refusals -------------------------------------------------------------------------------------------------------------

BAD_LINES = [
    ("no JSON", "column 2"),
    ('{"id": 3', None),
    ("[1, 2]", "object"),
    ('{"id": 5}', "prompt"),
    ('{"id": 6, "prompt": "a", "ids": [1]}', "exactly one"),
    ('{"id": 7, "prompt": 7}', "prompt"),
    ('{"id": 8, "ids": [1, "x"]}', "ids"),
    ('{"id": 9, "ids": [1, 99999]}', "99999"),
    ('{"id": 10, "ids": []}', "empty"),
    ('{"id": 11, "messages": []}', "messages"),
    ('{"id": 12, "messages": "hi"}', "messages"),
    ('{"id": 13, "prompt": "a", "max_token": 5}', "max_token"),
    ('{"id": 14, "prompt": "a", "max_tokens": 0}', "max_tokens"),
    ('{"id": 15, "prompt": "a", "max_tokens": 1.5}', "max_tokens"),
    ('{"id": 16, "prompt": "a", "temperature": -1}', "temperature"),
    ('{"id": 17, "prompt": "a", "temperature": "hot"}', "temperature"),
    ('{"id": 18, "prompt": "a", "top_p": 2}', "top_p"),
    ('{"id": 19, "prompt": "a", "seed": "x"}', "seed"),
    ('{"id": 20, "prompt": "a", "stop": ""}', "stop"),
    ('{"id": 21, "prompt": "a", "stop": [1]}', "stop"),
    ('{"id": 22, "prompt": "a", "ignore_eos": 1}', "ignore_eos"),
    ('{"id": 23, "prompt": "a", "temperature": NaN}', None),
    ('{"id": 24, "ids": [-1]}', "ids"),
    ('{"id": 25, "prompt": "a", "max_tokens": 99999999}', None),
    ('{"id": 26, "prompt": ""}', "empty"),
]


def test_a_bad_line_is_answered_in_its_place(tiny_model):
    """It says which line and what is wrong; the others are served, and the exit code is 1."""
    good = '{"id": "good", "prompt": "a", "max_tokens": 2}'
    lines = [line for bad, _ in BAD_LINES for line in (good, bad)] + [good]
    done = shoal_run(tiny_model, lines=lines)
    assert done.returncode == 1
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(lines)
    for n, (line, part) in enumerate(BAD_LINES):
        answer = answers[2 * n + 1]
        assert list(answer) == ["id", "error"], (line, answer)
        assert answer["error"].startswith(f"line {2 * n + 2}: ") and (part is None or part in answer["error"]), answer
    assert all(answer["id"] == "good" and len(answer["ids"]) >= 1 for answer in answers[::2])


def test_bytes_that_are_no_utf8(tiny_model):
    done = subprocess.run([BIN / "shoal", "run", "--jsonl", tiny_model], input=b'{"id": 1, "prompt": "\xff\xfe"}\n',
                          capture_output=True, timeout=TIMEOUT_S)
    assert done.returncode == 1 and json.loads(done.stdout)["error"].startswith("line 1: "), done


@pytest.mark.parametrize("args", [
    [], ["MODEL", "prompt", "more"], ["--no-such-option", "MODEL"], ["--jsonl", "MODEL", "prompt"],
    ["--top-p", "2", "MODEL", "a"], ["--temperature", "hot", "MODEL", "a"], ["--kv-type", "f8", "MODEL", "a"],
    ["--max-tokens", "0", "MODEL", "a"], ["--input", "file", "MODEL", "a"], ["MODEL", "a", "--seed"],
])
def test_wrong_usage_is_exit_code_2(tiny_model, args):
    done = subprocess.run([BIN / "shoal", "run", *(str(tiny_model) if arg == "MODEL" else arg for arg in args)],
                          capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=TIMEOUT_S)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.startswith("shoal run: "), done


def test_help():
    done = subprocess.run([BIN / "shoal", "run", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "" and done.stdout.startswith("Usage: shoal run")
    for word in ("MODEL", "PROMPT", "--jsonl", "--max-tokens", "--temperature", "--seed", "--kv-type", "finish_reason"):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 110


def test_output_that_cannot_be_written(tiny_model):
    with open("/dev/full", "w") as full:
        for options in (["--jsonl"], []):
            done = subprocess.run([BIN / "shoal", "run", *options, tiny_model], stdout=full, stderr=subprocess.PIPE,
                                  input=b'{"id": 1, "prompt": "a", "max_tokens": 2}\n', timeout=TIMEOUT_S)
            assert done.returncode == 1 and b"output" in done.stderr, done


def damaged(folder, tmp_path, change):
    copy = tmp_path / "damaged"
    shutil.copytree(folder, copy)
    change(copy)
    return copy


def cut(path, size):
    os.truncate(path, size)


def edit_json(path, **changes):
    value = json.loads(path.read_text())
    for key, new in changes.items():
        value.pop(key, None) if new is None else value.update({key: new})
    path.write_text(json.dumps(value))


FOLDERS = {  # what happened to it, then what the refusal must say
    "no config": (lambda f: (f / "config.json").unlink(), "config.json"),
    "config no JSON": (lambda f: (f / "config.json").write_text("{"), "config.json"),
    "config without sizes": (lambda f: edit_json(f / "config.json", hidden_size=None), "hidden_size"),
    "another architecture": (lambda f: edit_json(f / "config.json", architectures=["MambaForCausalLM"],
                                                 model_type="mamba"), "mamba"),
    "another rope scaling": (lambda f: edit_json(f / "config.json", rope_scaling={"rope_type": "yarn", "factor": 4}),
                             "yarn"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "safetensors"),
    "weights cut off": (lambda f: cut(f / "model.safetensors", 50000), "model.safetensors"),
    "weights empty": (lambda f: cut(f / "model.safetensors", 0), "model.safetensors"),
    "weights of another shape": (lambda f: edit_json(f / "config.json", intermediate_size=128), "mlp"),
    "weights of fewer layers": (lambda f: edit_json(f / "config.json", num_hidden_layers=4), "layers.3"),
    "tokenizer no JSON": (lambda f: (f / "tokenizer.json").write_text("[[["), "tokenizer.json"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer"),
}


@pytest.mark.parametrize("what", FOLDERS)
def test_a_damaged_folder_is_refused_by_name(folder, tmp_path, what):
    change, part = FOLDERS[what]
    refused(shoal_run(damaged(folder, tmp_path, change), "--raw", text="a"), part)


def test_a_damaged_gguf_is_refused_by_name(tiny_model, tmp_path):
    whole, bad = tiny_model.read_bytes(), tmp_path / "bad.gguf"
    lengths = struct.pack("<Q", 2**62)
    damages = {
        "empty": b"", "four bytes": whole[:4], "magic": b"GGML" + whole[4:], "version 1": whole[:4] + b"\1" + whole[5:],
        "version 4": whole[:4] + b"\4" + whole[5:], "byte order": whole[:4] + b"\0\0\0\3" + whole[8:],
        "header cut": whole[:20], "metadata cut": whole[:500], "tensors cut": whole[: len(whole) // 2],
        "one byte short": whole[:-33], "tensor count": whole[:8] + lengths + whole[16:],
        "value count": whole[:16] + lengths + whole[24:], "string length": whole[:24] + lengths + whole[32:],
        "text": b"I am no model.\n" * 100,
    }
    for what, data in damages.items():
        bad.write_bytes(data)
        done = shoal_run(bad, "--raw", text="a")
        assert done.returncode == 1, (what, done)
        refused(done, "bad.gguf")


def test_files_that_are_no_model(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "none.gguf", tmp_path / "none", tmp_path / "empty"):
        refused(shoal_run(path, text="a"), path)
    (tmp_path / "notes.txt").write_text("hello")
    refused(shoal_run(tmp_path / "notes.txt", text="a"), "notes.txt")


def test_a_model_without_tokenizer_takes_ids(tmp_path):
    """Random weights under a vocabulary of nobody's: ids in, ids out."""
    TinyModel(3).write(tmp_path / "m", "F32")
    (tmp_path / "m" / "tokenizer.json").unlink()
    (tmp_path / "m" / "tokenizer_config.json").unlink()
    done = shoal_run(tmp_path / "m", lines=[{"id": 1, "ids": [5, 6, 7], "max_tokens": 4, "ignore_eos": True},
                                            {"id": 2, "prompt": "a"}])
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1 and len(answers[0]["ids"]) == 4 and "tokenizer" in answers[1]["error"], done
