#!/usr/bin/env python3
"""Enforces what the style forbids: banned functions, impure cores, machine paths, files without an opening paragraph,
and files and functions that are too long.

Run as `banned.py [root]`; one line per finding, exit status 1 when there are any.
"""
import re
import sys

import tree
from includes import room_of

FILE_LINES_MAX = 700
FUNCTION_LINES_MAX = 70
OPENING_LINES_MIN = 10  # a file of a few lines explains itself

# (rule, regular expression on code without comments and strings, on which paths, sentence)
TESTS = re.compile(r"(tests|chaos)/")
EVERYWHERE = re.compile(r"")
PRODUCT = re.compile(r"(?!(tests|chaos)/)")
UNIT_TESTS = re.compile(r"tests/unit/")


def call(*names):
    return re.compile(r"(?<![\w.>])(" + "|".join(names) + r")\s*\(")


CODE_RULES = [
    ("banned-function", call("strcpy", "strcat", "sprintf", "vsprintf", "strtok", "atoi", "atol", "atoll", "atof",
                             "gets", "alloca", "tmpnam", "mktemp"), EVERYWHERE,
     "{} is banned; use the bounded call (snprintf, buf_printf, strtol, mem_alloc)"),
    ("banned-assert", re.compile(r"(?<![\w.>])(assert)\s*\("), PRODUCT, "{} vanishes in release builds; use CHECK"),
    ("banned-random", call("rand", "srand", "random", "srandom", "drand48"), EVERYWHERE,
     "{} has global state; use struct rng, or crypto_random for secrets"),
    ("sleep-in-test", call("sleep", "usleep", "nanosleep", "clock_nanosleep"), UNIT_TESTS,
     "{}: wait for a state with a deadline instead"),
]

# In sched/ and in the programs' cores: no clock, no socket, no thread.
CORE_ROOMS = {"sched", "coordinator", "router", "worker/agent", "grammar", "text", "model", "proto"}
CORE_RULES = [
    ("core-clock", call("time", "clock", "clock_gettime", "gettimeofday", "timespec_get", "clock_mono_us",
                        "clock_mono_ns", "clock_wall_us", "sleep", "usleep", "nanosleep"),
     "{}: a core gets its time in the event"),
    ("core-socket", call("socket", "connect", "bind", "listen", "accept", "accept4", "sendto", "recvfrom", "sendmsg",
                         "recvmsg", "poll", "select", "epoll_wait", "fork", "execve", "execvp", "posix_spawn"),
     "{}: a core makes no system call; its shell does"),
    ("core-thread", call("pthread_create", "thrd_create", "pthread_mutex_lock", "mtx_lock", "pthread_cond_wait"),
     "{}: a core has no threads"),
]
CORE_HEADERS = re.compile(r'^[ \t]*#[ \t]*include[ \t]*[<"]((time|sys/time|sys/socket|netinet/\w+|arpa/inet|poll|'
                          r'sys/epoll|pthread|threads|base/clock)\.h)[>"]', re.M)

# The engine computes in one thread; only the pool of the CPU backend starts more.
ENGINE_THREAD = ("engine-thread", call("pthread_create", "thrd_create"),
                 "{}: in worker/engine only cpu/pool starts threads")

# Pieces, so that this file doesn't name what it forbids.
MACHINE_PATHS = re.compile("(?<![\\w.$}])/" + "(?:work|root|home)" + "/|/tmp/" + "(?:whl|model)\\b")
REGISTRIES = re.compile("(?:py" + "pi|deb\\.deb" + "ian)\\.org|python" + "hosted|registry\\.n" + "pmjs")
UNFINISHED = re.compile("\\b(?:TO" + "DO|FIX" + "ME)\\b")

OPENINGS = [
    (re.compile(r".*\.(c|h|cu|cuh)$"), re.compile(r"\s*/\*(?:(?!\*/).){12,}\*/", re.S)),
    (re.compile(r".*\.py$"), re.compile(r'(#!.*\n)?(\s*r?"""|#(?!!)\s*\w)')),
    (re.compile(r".*(\.sh|\.cmake|CMakeLists\.txt)$"), re.compile(r"(#!.*\n)?\s*#(?!!)\s*\w")),
    (re.compile(r"(tools|\.ci)/[a-z-]+$"), re.compile(r'#!.*\n\s*(#|""")\s*\w')),
]


def line_at(text, offset):
    return text.count("\n", 0, offset) + 1


def check_code(path, text):
    """Rules about calls, on C text whose comments and strings are gone."""
    code = tree.without_comments_and_strings(text)
    room = room_of(path)
    rules = [(rule, pattern, sentence) for rule, pattern, places, sentence in CODE_RULES if places.match(path)]
    if room in CORE_ROOMS:
        rules += CORE_RULES
    if room == "worker/engine" and not path.startswith("worker/engine/cpu/pool"):
        rules.append(ENGINE_THREAD)
    for rule, pattern, sentence in rules:
        for match in pattern.finditer(code):
            yield line_at(code, match.start(1)), rule, sentence.format(match.group(1))
    if room in CORE_ROOMS:
        for match in CORE_HEADERS.finditer(text):
            yield line_at(text, match.start(1)), "core-header", f"{match.group(1)} has no place in a core"


def check_functions(text):
    """A function's body opens and closes with a brace in the first column."""
    opened = None
    for number, line in enumerate(text.split("\n"), 1):
        if line.rstrip() == "{":
            opened = number
        elif line.startswith("}") and opened is not None:
            if number - opened - 1 > FUNCTION_LINES_MAX:
                yield opened, "function-length", f"{number - opened - 1} lines; {FUNCTION_LINES_MAX} are the most"
            opened = None


def check_guard(path, text):
    guard = "SHOAL_" + re.sub(r"[^A-Z0-9]", "_", path.upper())
    if path.endswith(".h") and not re.search(rf"^#ifndef {guard}\n#define {guard}\n", text, re.M):
        yield 1, "header-guard", f"the guard must be {guard}"


def check_text(path, text):
    """Rules about any text file."""
    for rule, pattern, sentence in [
            ("machine-path", MACHINE_PATHS, "names a path of one machine"),
            ("registry-host", REGISTRIES, "names a registry's host; leave that to the package manager's settings"),
            ("unfinished", UNFINISHED, "finish it, or write an issue")]:
        for match in pattern.finditer(text):
            yield line_at(text, match.start()), rule, sentence
    for paths, opening in OPENINGS:
        if paths.match(path) and text.count("\n") > OPENING_LINES_MIN and not opening.match(text):
            yield 1, "opening", "must open with a paragraph: what it is for, what it owns, how it fails"
    if path.endswith((".c", ".h", ".cu", ".py")) and text.count("\n") > FILE_LINES_MAX:
        yield 1, "file-length", f"{text.count(chr(10))} lines; {FILE_LINES_MAX} are the most"


WHOLE_FILE_RULES = {"opening", "file-length", "header-guard"}


def check_file(path, text):
    yield from check_text(path, text)
    if tree.is_c(path):
        yield from check_code(path, text)
        yield from check_functions(text)
        yield from check_guard(path, text)


def findings(root):
    found = []
    for path in tree.listed(root):
        text = tree.read(root, path)
        if text is None or path == "LICENSE":
            continue
        lines = text.split("\n")
        for line, rule, sentence in check_file(path, text):
            if not tree.is_allowed(lines, line, rule, rule in WHOLE_FILE_RULES):
                found.append((path, line, rule, sentence))
    return found


if __name__ == "__main__":
    sys.exit(tree.report(findings(tree.root_from_arguments()), "banned"))
