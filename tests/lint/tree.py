"""The files that the lint tests look at, and C text without its comments and strings.

A finding is (path, line, rule, sentence). A line may break a rule for a reason: a comment `lint: allow RULE: reason` on
it, or within the three lines above it, silences that rule there; for rules about a whole file it stands within the
first twenty lines.
"""
import os
import re
import subprocess
import sys

WHOLE_FILE_LINES = 20
LINES_ABOVE = 3


def listed(root):
    """Paths, relative to root, of everything that is tracked or could be; a plain walk where there is no git."""
    try:
        out = subprocess.run(["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                             check=True, capture_output=True).stdout
        paths = [name for name in out.decode("utf-8", "surrogateescape").split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        paths = []
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if name not in (".git", "build", ".venv")]
            paths += [os.path.relpath(os.path.join(folder, name), root) for name in names]
    return sorted(path for path in set(paths) if os.path.isfile(os.path.join(root, path)))


def read(root, path):
    """The file's text, or None when it is no text."""
    with open(os.path.join(root, path), "rb") as file:
        data = file.read()
    if b"\0" in data:
        return None
    return data.decode("utf-8", "replace")


def is_c(path):
    return path.endswith((".c", ".h", ".cu", ".cuh"))


_C_TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def without_comments_and_strings(text):
    """The same lines, with comments blanked and strings empty, so that a word in prose breaks no rule."""
    def blank(match):
        token = match.group(0)
        if token[0] in "\"'":
            return token[0] * 2
        return "\n" * token.count("\n") if "\n" in token else " "
    return _C_TOKEN.sub(blank, text)


def is_allowed(lines, line, rule, whole_file=False):
    first, last = (0, WHOLE_FILE_LINES) if whole_file else (max(0, line - 1 - LINES_ABOVE), line)
    mark = re.compile(r"lint: allow " + re.escape(rule) + r": \S+")
    return any(mark.search(text) for text in lines[first:last])


def report(findings, what):
    for path, line, rule, sentence in sorted(findings):
        print(f"{path}:{line}: {rule}: {sentence}")
    print(f"{what}: {len(findings)} findings" if findings else f"{what}: clean")
    return 1 if findings else 0


def root_from_arguments():
    if len(sys.argv) > 1:
        return sys.argv[1]
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
