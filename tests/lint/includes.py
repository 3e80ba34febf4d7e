#!/usr/bin/env python3
"""Enforces the include table: which room may include which, and which file may see which third-party header.

Folders tell core from shell. Tests, chaos and fuzz targets may include anything. Run as `includes.py [root]`; one line
per finding, exit status 1 when there are any.
"""
import os
import re
import sys

import tree

# Room -> rooms it may include, besides itself. The longest matching folder counts.
ROOMS = {
    "base": set(),
    "model": {"base"},
    "text": {"base", "model"},
    "grammar": {"base", "model"},
    "proto": {"base"},
    "sched": {"base"},
    "net": {"base"},
    "coordinator": {"base", "proto", "sched"},
    "coordinator/consensus": {"base", "proto", "sched"},
    "coordinator/shell": {"base", "proto", "net", "coordinator", "coordinator/consensus"},
    "router": {"base", "proto", "sched", "text", "grammar", "model"},
    "router/shell": {"base", "proto", "net", "router"},
    "worker/agent": {"base", "proto", "sched"},
    "worker/agent/shell": {"base", "proto", "net", "worker/agent"},
    "worker/engine": {"base", "model", "sched", "grammar"},
    "worker/engine/shell": {"base", "proto", "net", "worker/engine"},
    "worker/shell": {"base", "proto", "net", "worker", "worker/agent", "worker/engine"},
    "sim": {"base", "proto", "sched", "coordinator", "coordinator/consensus", "router", "worker/agent", "worker/engine"},
    "cli": {"base", "model", "text", "grammar", "proto", "net", "sched", "sim", "worker/engine"},
}
ANYTHING = ("tests/", "chaos/")

# Third-party header (regular expression) -> where it may stand (regular expression on the path).
THIRD_PARTY = [
    (r"jansson\.h", r"base/json\.c"),
    (r"sodium\.h", r"base/crypto\.c"),
    (r"xxhash\.h", r"base/hash\.c"),
    (r"yaml\.h", r"base/conf\.c"),
    (r"pcre2\.h", r"text/regex\.[ch]"),
    (r"utf8proc\.h", r"text/unicode\.[ch]"),
    (r"msgpack(\.h|/.*)", r"proto/codec[a-z_]*\.c"),
    (r"uv\.h", r"net/.*"),
    (r"zmq\.h", r"net/bus[a-z_]*\.[ch]"),
    (r"http_parser\.h", r"net/http1[a-z_]*\.[ch]"),
    (r"ucp/.*|ucs/.*|uct/.*", r"net/link[a-z_]*\.[ch]"),
    (r"openssl/.*", r"net/tls[a-z_]*\.[ch]"),
    (r"raft(\.h|/.*)", r"(coordinator/consensus|sim)/.*"),
    (r"hwloc(\.h|/.*)", r"worker/agent/inventory[a-z_]*\.[ch]"),
    (r"mpi\.h", r"worker/engine/(shell/)?[a-z_]*mpi[a-z_]*\.[ch]"),
    (r"nccl\.h", r"worker/engine/cuda/[a-z_]*nccl[a-z_]*\.(c|h|cu)"),
    (r"(cuda|cublas|nv).*\.h", r"worker/engine/cuda/.*"),
]

# The C library's and the kernel's headers: no third party. Their own restrictions are in banned.py.
SYSTEM = re.compile(r"""(
    assert|complex|ctype|errno|fenv|float|inttypes|iso646|limits|locale|math|setjmp|signal|stdalign|stdarg|stdatomic
    |stdbool|stddef|stdint|stdio|stdlib|stdnoreturn|string|strings|tgmath|threads|time|uchar|wchar|wctype
    |dirent|dlfcn|fcntl|fnmatch|getopt|glob|grp|ifaddrs|libgen|netdb|poll|pthread|pwd|sched|semaphore|spawn|syslog
    |termios|unistd|ucontext|execinfo|endian|byteswap|malloc
    |cpuid|immintrin|nmmintrin|x86intrin|arm_neon
    |(sys|net|netinet|arpa|linux|asm)/[a-z0-9_]+
    )\.h""", re.X)

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)


def room_of(path):
    """The longest folder of `path` that the table knows, or None."""
    parts = path.split("/")[:-1]
    for length in range(len(parts), 0, -1):
        folder = "/".join(parts[:length])
        if folder in ROOMS:
            return folder
    return None


def check_own(root, path, included):
    """A sentence about a quoted include, or None."""
    if not os.path.isfile(os.path.join(root, included)):
        return "include-path", f'"{included}" is no file from the root (write "room/file.h")'
    room, target = room_of(path), room_of(included)
    if path.startswith(ANYTHING) or room == target or target in ROOMS.get(room, ()):
        return None
    if room is None:
        return "include-room", f"the include table has no row for {os.path.dirname(path) or 'the root'}"
    return "include-room", f"{room} may not include {target or os.path.dirname(included)} ({included})"


def check_foreign(path, included):
    """A sentence about an include in angle brackets, or None."""
    if path.startswith(ANYTHING) or SYSTEM.fullmatch(included):
        return None
    for header, places in THIRD_PARTY:
        if re.fullmatch(header, included):
            if re.fullmatch(places, path):
                return None
            return "include-third-party", f"<{included}> may stand only in {places}"
    return "include-unknown", f"<{included}> is in no row of the include table"


def findings(root):
    found = []
    for path in tree.listed(root):
        if not tree.is_c(path):
            continue
        text = tree.read(root, path) or ""
        lines = text.split("\n")
        for match in INCLUDE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            quoted = match.group(1) == '"'
            bad = check_own(root, path, match.group(2)) if quoted else check_foreign(path, match.group(2))
            if bad and not tree.is_allowed(lines, line, bad[0]):
                found.append((path, line, *bad))
    return found


if __name__ == "__main__":
    sys.exit(tree.report(findings(tree.root_from_arguments()), "includes"))
