#!/usr/bin/env python3
"""Checks that tests/runner.py counts honestly: every way in which CTest and pytest report a test lands where it belongs,
and in CI a skip fails unless tests/skips.txt names it.
"""
import contextlib
import importlib.util
import io
import os
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
spec = importlib.util.spec_from_file_location("tests_runner", os.path.join(os.path.dirname(HERE), "runner.py"))
runner = importlib.util.module_from_spec(spec)
spec.loader.exec_module(runner)

CTEST = """<testsuite>
<testcase name="unit.a.ok" classname="unit.a.ok" status="run"><system-out>fine</system-out></testcase>
<testcase name="unit.a.bad" classname="unit.a.bad" status="fail"><failure message=""/></testcase>
<testcase name="unit.a.none" classname="unit.a.none" status="notrun"><skipped message="SKIP_RETURN_CODE=77"/>
<system-out>SKIP unit.a.none: no data here</system-out></testcase>
<testcase name="unit.a.part" classname="unit.a.part" status="run"><system-out>x
SKIP unit.a.part: half of it
y</system-out></testcase>
<testcase name="unit.a.lost" classname="unit.a.lost" status="notrun"/>
</testsuite>"""
PYTEST = """<testsuites><testsuite>
<testcase classname="tests.e2e.test_x" name="test_ok"/>
<testcase classname="tests.e2e.test_x" name="test_bad"><failure message="assert 1 == 2"/></testcase>
<testcase classname="tests.e2e.test_x" name="test_broken"><error message="failed on setup"/></testcase>
<testcase classname="tests.e2e.test_x" name="test_off"><skipped message="no model"/></testcase>
</testsuite></testsuites>"""


def results_of(text, prefix=""):
    results = runner.Results()
    with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
        file.write(text)
        file.flush()
        runner.read_junit(file.name, prefix, results)
    return results


def judged(text, prefix, ci, skips):
    results = results_of(text, prefix)
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(skips)
        file.flush()
        runner.SKIPS = file.name
        os.environ["CI"] = "true" if ci else ""
        with contextlib.redirect_stdout(io.StringIO()):
            runner.judge_skips(results)
    return len(results.passed), len(results.failed), len(results.skipped)


def main():
    ctest, pytest = results_of(CTEST, "asan:"), results_of(PYTEST)
    broken, missing = results_of("<testsuite"), runner.Results()
    runner.read_junit("/nonexistent/x.xml", "e2e", missing)
    skips = "# comment\nunit.a.none needs data\nunit.a.part needs data\nunit.a.lost too\n"
    expected = [
        (ctest.passed, ["asan:unit.a.ok", "asan:unit.a.part"]),
        (ctest.failed, ["asan:unit.a.bad"]),
        (ctest.skipped, {"asan:unit.a.none": "no data here", "asan:unit.a.part": "half of it",
                         "asan:unit.a.lost": "not run"}),
        (pytest.passed, ["tests.e2e.test_x::test_ok"]),
        (len(pytest.failed), 2),
        (pytest.skipped, {"tests.e2e.test_x::test_off": "no model"}),
        (len(broken.failed), 1),
        (len(missing.failed), 1),
        (judged(CTEST, "", False, ""), (2, 1, 3)),
        (judged(CTEST, "", True, ""), (1, 4, 0)),
        (judged(CTEST, "asan:", True, skips), (2, 1, 3)),
        (judged(CTEST, "", True, "unit.a.none\nunit.a.part needs data\n"), (2, 3, 1)),  # a name without a reason is none
    ]
    failures = [(got, wanted) for got, wanted in expected if got != wanted]
    for got, wanted in failures:
        print(f"got {got}, wanted {wanted}")
    print(f"lint runner: {len(expected)} checks, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
