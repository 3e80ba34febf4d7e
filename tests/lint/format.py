#!/usr/bin/env python3
"""Checks that every C file is as .clang-format has it: `format.py CLANG_FORMAT [--fix]`. Files that differ are named;
exit status 1 when there are any.
"""
import os
import subprocess
import sys

import tree


def main():
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    files = [path for path in tree.listed(root) if path.endswith((".c", ".h"))]
    how = ["-i"] if "--fix" in sys.argv else ["--dry-run", "-Werror"]
    run = subprocess.run([sys.argv[1], *how, *files], cwd=root, capture_output=True, text=True, check=False)
    bad = sorted({line.split(":")[0] for line in run.stderr.split("\n") if ": error: " in line})
    for path in bad:
        print(f"{path}: is not as .clang-format has it (clang-format -i {path})")
    if run.returncode != 0 and not bad:
        print(run.stderr)
    print(f"format: {len(files)} files, {len(bad)} differ")
    return 1 if run.returncode != 0 else 0


if __name__ == "__main__":
    sys.exit(main())
