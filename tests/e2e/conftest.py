"""Models for the end-to-end tests: a tiny one from a seed, and the real demo model where it was fetched."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.cluster import ROOT


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    subprocess.run([sys.executable, ROOT / "tests/support/tiny_model.py", path, "--seed", "3", "--type", "Q8_0"],
                   check=True, stdout=subprocess.DEVNULL)
    return path


@pytest.fixture(scope="session")
def demo_model():
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    path = Path(os.environ.get("SHOAL_DEMO_MODEL", cache / "shoal/models/SmolLM2-135M-Instruct.Q4_1.gguf"))
    if not path.exists():
        pytest.skip("the demo model was not fetched (tools/fetch-model)")
    return path
