"""Fixtures that several folders of tests share."""

import faulthandler
import os
from pathlib import Path

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key
from hypothesis import settings

# The same examples each time, however long one takes: what fails, fails by the code and not by the machine.
settings.register_profile("any machine", deadline=None, derandomize=True, database=None)
settings.load_profile("any machine")
# Pages and hubs of these tests are on this machine, where a proxy does not reach.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"


@pytest.fixture(scope="session")
def bdd100k_root() -> Path:
    """The real frames beside the checkout; tests that need them are skipped where they are not."""
    root = Path(__file__).resolve().parents[2] / "shared" / "bdd100k_subset"
    if not root.is_dir():
        pytest.skip("the real frames are not beside the checkout")
    return root


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """After a failure pytest's own watch (`faulthandler_timeout`) is off; what is torn down may hang too."""
    faulthandler.dump_traceback_later(600, exit=True, file=item.config.stash[fault_handler_stderr_fd_key])


@pytest.hookimpl(trylast=True)
def pytest_runtest_logfinish() -> None:
    """The test is over: nothing is watched until the next one."""
    faulthandler.cancel_dump_traceback_later()
