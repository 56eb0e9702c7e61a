"""What every test runs under: no network, one thread a process, fixed seeds; and where the public data is.

Set before torch and the tokenizers are first imported, which read these variables once. torch itself is not
imported here: a test of a pure file starts without it.
"""

import os
import random
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import Phase, settings

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["TRUNKLINE_DTYPE"] = "float32"  # here, because fixtures of a module start services, too

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it for what runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # programs that tests start are to be stopped

ROOT = Path(__file__).resolve().parents[1]

# `pytest --hypothesis-profile NAME`: ten times as many examples, where a test does not fix their number; or,
# for `make mutants`, which asks whether a test fails and not how, no search for the smallest failing example.
settings.register_profile("thorough", max_examples=1000)
settings.register_profile("unshrunk", phases=[Phase.explicit, Phase.generate], database=None)


@pytest.fixture(autouse=True)
def _seeds() -> None:
    """The same random numbers for a test whatever ran before it, in the libraries already imported."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's TRUNKLINE_ variables (a token, a store) would otherwise reach the code under test.

    Services of tests compute in float32: what `auto` is depends on the processor.
    """
    for name in [name for name in os.environ if name.startswith("TRUNKLINE_") and name != "TRUNKLINE_DTYPE"]:
        monkeypatch.delenv(name)


SHARED_DATA = Path(os.environ.get("TRUNKLINE_SHARED_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public data sets beside a checkout; they may not be passed on, so they are not in it."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no public data sets at {SHARED_DATA}; TRUNKLINE_SHARED_DATA names another folder")
    return SHARED_DATA


@pytest.fixture(scope="session")
def oracles(shared_data: Path) -> Path:
    """The folder of recorded outputs of the official Compacter code, beside the public data sets."""
    folder = shared_data.parent / "oracles" / "compacter"
    if not folder.is_dir():
        pytest.skip(f"no recorded outputs of the official code at {folder}")
    return folder
