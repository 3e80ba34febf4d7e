"""runner: builds shoal and runs its tests part by part, shows what it does, and adds the results up.

tools/test calls it once the machine is set up. Each part (unit, e2e, asan, tsan, fuzz) builds one CMake preset and runs
CTest or pytest, whose output goes straight to the terminal; their JUnit files give the counts. A part that can't be
built counts as one failure and the others still run. A passed CTest that printed "SKIP name: reason" counts as passed
and its inner skip as skipped. What a sanitizer finds in any process, daemons included, is a failure. Exit status 1 when
anything failed.
"""
import argparse
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SKIPS = os.path.join(ROOT, "tests", "skips.txt")
PARTS = ["unit", "e2e", "asan", "tsan", "fuzz"]
QUICK_PARTS = ["unit", "e2e"]
CTEST_OUTPUT_BYTES = 1 << 20
# The rooms that have threads, or whose order of events is the whole point, are run under ThreadSanitizer.
TSAN_ROOMS = ["worker", "net", "coordinator"]
# How much longer an end-to-end test may wait for a state in an instrumented build.
ASAN_PATIENCE = "5"
SKIP_LINE = re.compile(r"^SKIP ([^\s:]+(?:::[^\s:]+)*): *(.*)$", re.M)


class Results:
    """What happened: names of passed and failed tests, and names of skipped ones with their reasons."""

    def __init__(self):
        self.passed, self.failed, self.skipped = [], [], {}

    def fail(self, name, why):
        self.failed.append(f"{name}: {why}" if why else name)


def say(text):
    print(f"== {text}", flush=True)


def run(command, **more):
    print("$ " + shlex.join(command), flush=True)
    return subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, check=False, **more).returncode


def cpu_seconds():
    """Of every process that ended and was waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def build(preset, targets):
    """Configures and builds; a sentence when that fails, else None."""
    started, used = time.monotonic(), cpu_seconds()
    say(f"build {preset}")
    # Tests on: tools/quickstart may have configured this folder without them.
    if run(["cmake", "--preset", preset, "--log-level=WARNING", "-DSHOAL_TESTS=ON"]) != 0:
        return f"the preset {preset} could not be configured"
    quiet = [] if sys.stdout.isatty() else ["--", "--quiet"]  # a terminal gets ninja's one line of progress
    if run(["cmake", "--build", f"build/{preset}", *(["--target", *targets] if targets else []), *quiet]) != 0:
        return f"the preset {preset} could not be built"
    say(f"built {preset} in {time.monotonic() - started:.0f} s with {cpu_seconds() - used:.0f} s of CPU")
    return None


def first_line(text):
    return (text or "").strip().split("\n")[0]


def read_junit(path, prefix, results):
    """Adds a JUnit file's tests. CTest and pytest both write <skipped> and <failure> (pytest also <error>)."""
    try:
        cases = list(ElementTree.parse(path).iter("testcase"))
    except (OSError, ElementTree.ParseError) as error:
        results.fail(prefix + "results", f"no readable {os.path.basename(path)} ({error})")
        return
    for case in cases:
        name = case.get("name")
        if case.get("classname") not in (None, name):  # pytest: tests.e2e.test_x and test_y
            name = f"{case.get('classname')}::{name}"
        name = prefix + name
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        skipped = case.find("skipped")
        output = case.findtext("system-out") or ""
        inner = SKIP_LINE.findall(output)
        if bad is not None or case.get("status") == "fail":
            results.fail(name, first_line(bad.get("message") if bad is not None else ""))
        elif skipped is not None or case.get("status") in ("notrun", "disabled"):
            reason = inner[0][1] if inner else first_line(skipped.get("message") if skipped is not None else "not run")
            results.skipped[name] = reason
        else:
            results.passed.append(name)
            for inner_name, reason in inner:
                results.skipped[f"{prefix}{inner_name}"] = reason


def ctest(preset, prefix, selection, results, jobs=None):
    junit = os.path.join(ROOT, "build", preset, "ctest.xml")
    if os.path.exists(junit):
        os.remove(junit)
    status = run(["ctest", "--test-dir", f"build/{preset}", "--output-on-failure", "--no-tests=error",
                  "--test-output-size-passed", str(CTEST_OUTPUT_BYTES),
                  "--test-output-size-failed", str(CTEST_OUTPUT_BYTES),
                  "--timeout", "900", "-j", str(jobs or os.cpu_count() or 1), "--output-junit", junit, *selection])
    failed_before = len(results.failed)
    read_junit(junit, prefix, results)
    if status != 0 and len(results.failed) == failed_before:
        results.fail(prefix + "ctest", f"ended with {status}, although no test failed")


def end_to_end(preset, prefix, marks, results, environment=None):
    """Runs pytest on the programs of a preset's build."""
    junit = os.path.join(ROOT, "build", preset, "e2e.xml")
    if os.path.exists(junit):
        os.remove(junit)
    say(f"end-to-end tests, {preset}")
    environment = {**os.environ, "SHOAL_BIN": os.path.join(ROOT, "build", preset, "bin"), **(environment or {})}
    status = run([sys.executable, "-m", "pytest", "tests/e2e", "--junit-xml", junit, "-o", "junit_family=xunit1",
                  "--timeout=600", "--durations=10", "-p", "no:cacheprovider", "-ra", *(["-m", marks] if marks else [])],
                 env=environment)
    read_junit(junit, prefix, results)
    if status not in (0, 1):  # 1: some failed, which the file says; 2: interrupted, 5: no test found, …
        results.fail(prefix + "e2e", f"pytest ended with {status}")


def read_reports(folder, prefix, results):
    """Each file in which a sanitizer's runtime reported is a failure, shown whole."""
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
            report = file.read().strip()
        print(report, flush=True)
        summary = [line for line in report.split("\n") if "SUMMARY:" in line or "runtime error:" in line]
        results.fail(f"{prefix}report.{name}", summary[-1].strip() if summary else first_line(report))


def part_unit(results, quick):
    failure = build("release", [])
    if failure:
        results.fail("unit", failure)
        return
    ctest("release", "", ["-LE", "long|bench"] if quick else ["-LE", "bench"], results)


def part_e2e(results, quick):
    failure = build("release", [])
    if failure:
        results.fail("e2e", failure)
        return
    end_to_end("release", "", "not long" if quick else None, results)


def part_asan(results, quick):
    """Unit tests, then the quick end-to-end ones on the tiny models: the real one takes minutes for a sentence here."""
    failure = build("asan", [])
    if failure:
        results.fail("asan", failure)
        return
    ctest("asan", "asan:", ["-L", "unit", "-LE", "long|bench"], results)
    reports = os.path.join(ROOT, "build", "asan", "reports")
    shutil.rmtree(reports, ignore_errors=True)
    os.makedirs(reports)
    options = f"log_path={reports}/report"
    end_to_end("asan", "asan:", "not long and not demo", results,
               {"ASAN_OPTIONS": options, "UBSAN_OPTIONS": options + ":print_stacktrace=1",
                "SHOAL_TEST_PATIENCE": ASAN_PATIENCE})
    read_reports(reports, "asan:", results)


def part_tsan(results, quick):
    failure = build("tsan", [f"unit_{room}" for room in TSAN_ROOMS])
    if failure:
        results.fail("tsan", failure)
        return
    ctest("tsan", "tsan:", ["-R", f"^unit\\.({'|'.join(TSAN_ROOMS)})\\.", "-LE", "long|bench"], results)


def part_fuzz(results, quick):
    failure = build("fuzz", ["fuzzers"])
    if failure:
        results.fail("fuzz", failure)
        return
    ctest("fuzz", "", ["-L", "fuzz"], results)


def read_skips():
    """tests/skips.txt: a test's name, white space, the reason why it may be skipped in CI; # opens a comment."""
    named = {}
    if os.path.exists(SKIPS):
        with open(SKIPS, encoding="utf-8") as file:
            for line in file:
                name, _, reason = line.strip().partition(" ")
                if name and not name.startswith("#") and reason.strip():
                    named[name] = reason.strip()
    return named


def judge_skips(results):
    """In CI a skip that nobody vouched for is a failure."""
    named = read_skips()
    for name, reason in sorted(results.skipped.items()):
        allowed = name.split(":", 1)[1] if name.split(":", 1)[0] in PARTS else name
        if allowed in named:
            print(f"skipped {name}: {reason} (tests/skips.txt: {named[allowed]})")
        elif os.environ.get("CI") == "true":
            results.fail(name, f"skipped, and tests/skips.txt does not name it: {reason}")
            del results.skipped[name]
            if name in results.passed:
                results.passed.remove(name)
        else:
            print(f"skipped {name}: {reason}")


def main():
    parser = argparse.ArgumentParser(prog="tools/test")
    parser.add_argument("--quick", action="store_true", help="leave the long tests, fuzzing and sanitizers out")
    parser.add_argument("--only", metavar="PARTS", help="some of " + ",".join(PARTS))
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else QUICK_PARTS if options.quick else PARTS
    unknown = set(chosen) - set(PARTS)
    if unknown:
        parser.error(f"unknown part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    runs = {"unit": part_unit, "e2e": part_e2e, "asan": part_asan, "tsan": part_tsan, "fuzz": part_fuzz}
    results = Results()
    times = []
    for part in [part for part in PARTS if part in chosen]:
        started, used = time.monotonic(), cpu_seconds()
        runs[part](results, options.quick)
        times.append(f"{part} {time.monotonic() - started:.0f} s with {cpu_seconds() - used:.0f} s of CPU")
    say("results (" + ", ".join(times) + ")")
    judge_skips(results)
    for failed in results.failed:
        print(f"FAILED {failed}")
    print(f"{len(results.passed)} passed, {len(results.failed)} failed, {len(results.skipped)} skipped", flush=True)
    return 1 if results.failed or not results.passed else 0


if __name__ == "__main__":
    sys.exit(main())
