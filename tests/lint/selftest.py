#!/usr/bin/env python3
"""Proves that every lint rule fires: bad samples are written into an empty tree, one rule at a time, and each must give
exactly its own finding; good samples must give none. Fails, too, when a rule has no sample here.
"""
import os
import re
import sys
import tempfile

import banned
import includes

OPENING = "/* sample: a file that opens as it should. */\n"
LONG_BODY = "    work();\n" * (banned.FUNCTION_LINES_MAX + 1)
HOST = "py" + "pi.org"

# (rule, path, text, other files that must exist)
BAD = [
    ("include-path", "base/a.c", OPENING + '#include "a.h"\n', ["base/a.h"]),
    ("include-room", "base/a.c", OPENING + '#include "net/loop.h"\n', ["net/loop.h"]),
    ("include-room", "sched/a.c", OPENING + '#include "proto/proto.h"\n', ["proto/proto.h"]),
    ("include-room", "router/a.c", OPENING + '  #  include "net/loop.h"\n', ["net/loop.h"]),
    ("include-room", "router/shell/a.c", OPENING + '#include "worker/engine/engine.h"\n', ["worker/engine/engine.h"]),
    ("include-room", "worker/engine/a.c", OPENING + '#include "worker/engine/shell/main.h"\n',
     ["worker/engine/shell/main.h"]),
    ("include-room", "unknown/a.c", OPENING + '#include "base/a.h"\n', ["base/a.h"]),
    ("include-third-party", "router/json.c", OPENING + "#include <jansson.h>\n", []),
    ("include-third-party", "base/hash.c", OPENING + "#include <jansson.h>\n", []),
    ("include-third-party", "coordinator/fsm.c", OPENING + "#include <raft.h>\n", []),
    ("include-third-party", "worker/shell/main.c", OPENING + "#include <uv.h>\n", []),
    ("include-unknown", "base/a.c", OPENING + "#include <curl/curl.h>\n", []),
    ("banned-function", "base/a.c", OPENING + "void f(void)\n{\n    strcpy(a, b);\n}\n", []),
    ("banned-function", "tests/unit/base/test_a.c", OPENING + "int f(void)\n{\n    return atoi (a);\n}\n", []),
    ("banned-assert", "base/a.c", OPENING + "void f(void)\n{\n    assert(1);\n}\n", []),
    ("banned-random", "sched/a.c", OPENING + "int f(void)\n{\n    return rand();\n}\n", []),
    ("sleep-in-test", "tests/unit/net/test_a.c", OPENING + "void f(void)\n{\n    usleep(10);\n}\n", []),
    ("core-clock", "sched/a.c", OPENING + "long f(void)\n{\n    return clock_mono_us();\n}\n", []),
    ("core-clock", "router/a.c", OPENING + "long f(void)\n{\n    return time(NULL);\n}\n", []),
    ("core-socket", "coordinator/a.c", OPENING + "int f(void)\n{\n    return socket(1, 2, 3);\n}\n", []),
    ("core-thread", "worker/agent/a.c", OPENING + "void f(void)\n{\n    pthread_create(&a, 0, b, c);\n}\n", []),
    ("core-header", "sched/a.c", OPENING + "#include <pthread.h>\n", []),
    ("core-header", "coordinator/a.h", OPENING.rstrip() + "\n#ifndef SHOAL_COORDINATOR_A_H\n#define SHOAL_COORDINATOR_A_H\n"
     '#include "base/clock.h"\n#endif\n', ["base/clock.h"]),
    ("engine-thread", "worker/engine/a.c", OPENING + "void f(void)\n{\n    pthread_create(&a, 0, b, c);\n}\n", []),
    ("machine-path", "README.md", "Look into /" + "work/main.\n", []),
    ("machine-path", "tools/run", "#!/bin/sh\n# run: runs.\nexec /" + "root/x\n", []),
    ("registry-host", "tools/run", "#!/bin/sh\n# run: runs.\ncurl https://" + HOST + "\n", []),
    ("unfinished", "docs/a.md", "TO" + "DO: write this\n", []),
    ("opening", "base/a.c", '#include "base/a.h"\n' + "int x;\n" * 20, ["base/a.h"]),
    ("opening", "tests/e2e/a.py", "import os\n" * 20, []),
    ("opening", "tools/run", "#!/bin/sh\n" + "true\n" * 20, []),
    ("opening", "base/CMakeLists.txt", "add_library(x)\n" * 20, []),
    ("file-length", "base/a.c", OPENING + "int x;\n" * banned.FILE_LINES_MAX, []),
    ("function-length", "base/a.c", OPENING + "void f(void)\n{\n" + LONG_BODY + "}\n", []),
    ("header-guard", "base/a.h", OPENING + "#pragma once\n", []),
]

GOOD = [
    ("base/json.c", OPENING + "#include <jansson.h>\n#include <stdio.h>\n", []),
    ("coordinator/consensus/io.c", OPENING + "#include <raft.h>\n", []),
    ("router/shell/main.c", OPENING + '#include "router/core.h"\n#include "net/loop.h"\n#include "base/clock.h"\n',
     ["router/core.h", "net/loop.h", "base/clock.h"]),
    ("net/tcp.c", OPENING + "#include <uv.h>\nint f(void)\n{\n    return socket(1, 2, 3);\n}\n", []),
    ("tests/unit/sched/test_a.c", OPENING + "#include <cmocka.h>\n#include <time.h>\n", []),
    ("worker/engine/cpu/pool.c", OPENING + "#include <pthread.h>\nvoid f(void)\n{\n    pthread_create(&a, 0, b, c);\n}\n",
     []),
    # Words in comments, strings, members and longer names are no calls.
    ("sched/a.c", OPENING + "/* strcpy(a) or rand() */\nvoid f(void)\n{\n    x->time(1);\n    my_rand(1);\n"
     "    say(\"atoi(1) \\\" time(2)\");\n    runtime(3);\n}\n", []),
    ("base/b.c", OPENING + "void f(void)\n{\n    /* lint: allow banned-function: shows how a reason looks */\n"
     "    strcpy(a, b);\n}\n", []),
    ("base/c.c", OPENING.replace("sample", "lint: allow file-length: a table. sample") +
     "int x;\n" * banned.FILE_LINES_MAX, []),
    ("base/d.c", OPENING + "void f(void)\n{\n" + LONG_BODY[len("    work();\n"):] + "}\n", []),
]


def write(root, path, text):
    whole = os.path.join(root, path)
    os.makedirs(os.path.dirname(whole) or root, exist_ok=True)
    with open(whole, "w", encoding="utf-8") as file:
        file.write(text)


def header(path):
    guard = "SHOAL_" + re.sub(r"[^A-Z0-9]", "_", path.upper())
    return f"{OPENING}#ifndef {guard}\n#define {guard}\n#endif\n"


def rules_found(path, text, others):
    with tempfile.TemporaryDirectory() as root:
        for other in others:
            write(root, other, header(other))
        write(root, path, text)
        return sorted({rule for _, _, rule, _ in includes.findings(root) + banned.findings(root)})


def rules_in_sources():
    """Every rule's name stands in quotes in the two scripts, in front of or behind its pattern or sentence."""
    folder = os.path.dirname(os.path.abspath(__file__))
    text = ""
    for name in ("includes.py", "banned.py"):
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            text += file.read()
    return set(re.findall(r'"((?:include|banned|core|engine|machine|registry|file|function|header)-[a-z-]+|opening|'
                          r'unfinished|sleep-in-test)"', text))


def main():
    failures = []
    for rule, path, text, others in BAD:
        found = rules_found(path, text, others)
        if found != [rule]:
            failures.append(f"bad sample of {rule} ({path}): found {found or 'nothing'}")
    for path, text, others in GOOD:
        found = rules_found(path, text, others)
        if found:
            failures.append(f"good sample {path}: found {found}")
    for rule in sorted(rules_in_sources() - {rule for rule, *_ in BAD}):
        failures.append(f"rule {rule} has no bad sample")
    for failure in failures:
        print(failure)
    print(f"lint selftest: {len(BAD)} bad and {len(GOOD)} good samples, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
