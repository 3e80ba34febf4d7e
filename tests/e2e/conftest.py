"""Models for the end-to-end tests: a tiny one from a seed, and the real demo model where it was fetched."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.cluster import ROOT


def pytest_collection_modifyitems(items):
    """Tests on the real model bear the mark `demo`: sanitizer runs leave them out."""
    for item in items:
        if "demo_model" in getattr(item, "fixturenames", ()):
            item.add_marker("demo")


def make_model(tmp_path_factory, *options):
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    subprocess.run([sys.executable, ROOT / "tests/support/tiny_model.py", path, "--type", "Q8_0", *options],
                   check=True, stdout=subprocess.DEVNULL)
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    return make_model(tmp_path_factory, "--seed", "3")


@pytest.fixture(scope="session")
def slow_model(tmp_path_factory):
    """Wide and deep enough that something can happen in the middle of its streams."""
    return make_model(tmp_path_factory, "--seed", "7", "--dim", "256", "--heads", "8", "--kv-heads", "4", "--head-dim",
                      "32", "--ffn", "512", "--layers", "6")


@pytest.fixture(scope="session")
def demo_model():
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    path = Path(os.environ.get("SHOAL_DEMO_MODEL", cache / "shoal/models/SmolLM2-135M-Instruct.Q4_1.gguf"))
    if not path.exists():
        pytest.skip("the demo model was not fetched (tools/fetch-model)")
    return path
