#!/usr/bin/env python3
"""engine: the engine beside llama.cpp on one model, in alternating runs; medians and bests of both, and their ratios.

Usage: engine.py --model PATH [--shoal build/release/bin/shoal] [--bench build/release/bin/bench_engine]
                 [--llama-python VENV/bin/python] [--threads 2] [--prefill 512] [--decode 128] [--runs 5]

Measures `shoal run` as a user has it (--shoal, the default), or the bare decoder (--bench), which also prints its share of
the machine's read bandwidth. Without --llama-python nothing is compared. The virtual environment: python3 -m venv VENV &&
VENV/bin/pip install llama-cpp-python==0.3.36 (built natively from its source, about 4 minutes on two cores).
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys


def run_engine(options):
    text = subprocess.run([options.bench, "-t", str(options.threads), "-p", str(options.prefill), "-d",
                           str(options.decode), "-r", "1", options.model], check=True, capture_output=True,
                          text=True).stdout
    return {key: float(value) for key, value in re.findall(r"(\w+)=([0-9.]+)(?=\s)", text)}


def run_shoal(options):
    """One request of plain ids through `shoal run`, greedy, end ids ignored; the rates are its own --stats."""
    request = {"id": 0, "ids": [(i * 7919 + 13) % 49152 for i in range(options.prefill)], "max_tokens": options.decode}
    text = subprocess.run([options.shoal, "run", options.model, "--jsonl", "--ignore-eos", "--stats", "--threads",
                           str(options.threads)], input=json.dumps(request) + "\n", check=True, capture_output=True,
                          text=True).stderr
    rates = re.findall(r"(prefill|decode) \d+ tokens in [0-9.]+ s \(([0-9.]+) tok/s\)", text)
    return {f"{what}_tok_s": float(rate) for what, rate in rates}


def run_llama(options):
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "yardstick.py")
    text = subprocess.run([options.llama_python, script, options.model, str(options.threads), str(options.prefill),
                           str(options.decode)], check=True, capture_output=True, text=True).stdout
    return json.loads(text.splitlines()[-1])


def cpu_name():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--shoal", default="build/release/bin/shoal")
    parser.add_argument("--bench")
    parser.add_argument("--llama-python")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prefill", type=int, default=512)
    parser.add_argument("--decode", type=int, default=128)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    engine, llama = [], []
    for _ in range(options.runs):
        engine.append(run_engine(options) if options.bench else run_shoal(options))
        if options.llama_python:
            llama.append(run_llama(options))
    print(f"cpu {cpu_name()}, {options.threads} threads, load {os.getloadavg()[0]:.1f}")
    if llama:
        print(f"llama-cpp-python {llama[0]['version']}: {llama[0]['system']}")
    for what in ("prefill_tok_s", "decode_tok_s"):
        ours = [run[what] for run in engine]
        line = f"{what}: shoal median {statistics.median(ours):.1f}, best {max(ours):.1f}"
        if llama:
            theirs = [run[what] for run in llama]
            line += (f"; llama.cpp median {statistics.median(theirs):.1f}, best {max(theirs):.1f}; ratio of medians "
                     f"{statistics.median(ours) / statistics.median(theirs):.2f}, of bests {max(ours) / max(theirs):.2f}")
        print(line)
    if options.bench:
        print(f"decoder_open_ms median {statistics.median(run['decoder_open_ms'] for run in engine):.0f}, read GB/s "
              f"{statistics.median(run['read_gb_s'] for run in engine):.1f}, decode's share of that bandwidth "
              f"{statistics.median(run['decode_share_of_bandwidth'] for run in engine):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
