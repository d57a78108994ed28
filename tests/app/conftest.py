"""A tiny checkpoint that has learnt three plain pictures, and a browser where there is one."""

import shutil
import sys
import threading
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "processing"))
from launching import stop  # noqa: E402
from serving import serve  # noqa: E402
from tiny_checkpoint import checkpoint, pictures, pipe  # noqa: E402

__all__ = ["checkpoint", "pictures", "pipe"]

# Without these, Chromium keeps asking for hosts of its maker.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
# A container's /dev/shm is too small for Chromium, which crashes or hangs when it is full.
FLAGS += ["--disable-dev-shm-usage"]


@pytest.fixture(scope="module")
def address(checkpoint):
    process, address = serve([sys.executable, "scripts/app.py", "--checkpoint", str(checkpoint)])
    yield address
    stop(process)


@pytest.fixture(scope="module")  # Playwright's event loop runs as long as this does, in the way of any other
def browser():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium here (Debian: apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs pip install playwright")
    # Playwright waits without limit for a browser or a driver that does not answer.
    patience = threading.Timer(60, lambda: [child.kill() for child in psutil.Process().children(True)])
    try:
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=FLAGS, timeout=180_000)
            yield browser
            patience.start()
            browser.close()
    finally:
        patience.cancel()
