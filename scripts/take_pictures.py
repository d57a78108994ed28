"""Take the README's pictures again, with the checkpoint as it is now: ask.png, app.jpg and drive.jpg.

Needs Chromium beside the extra [dev].

Example:
    python scripts/take_pictures.py --output outputs/pictures
"""

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from traffic_vlm.processing.extras import needs
from traffic_vlm.processing.loading import check_checkpoint, load_pipeline

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # gradio reads it when imported
with needs("dev"):
    from playwright.sync_api import Page, sync_playwright
    from traffic_vlm.app.look import launch_options
    from traffic_vlm.app.page import build_page

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINT = ROOT / "checkpoints" / "traffic-vlm"
ASKED = ("Can I move forward?", "Is there a pedestrian?", "What time of day is it?")  # as `make ask` does
PATIENCE = 300_000  # milliseconds


def take(page: Page, path: Path) -> None:
    """Store what the page shows, from top to bottom, as JPEG."""
    shot = Image.open(io.BytesIO(page.screenshot(full_page=True)))
    shot.convert("RGB").save(path, quality=82, optimize=True)
    print(path)


def use(page: Page, folder: Path) -> None:
    """Ask two questions about a scene, then the battery along the rendered drive."""
    page.get_by_role("button", name="Red light").click()
    page.get_by_alt_text("The frame that is asked about").wait_for()
    page.get_by_label("Compare with another question (optional)").fill("Is the left lane clear?")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Ask", exact=True).click()
    page.locator("#status", has_text="Done").wait_for()
    take(page, folder / "app.jpg")
    page.get_by_role("tab", name="Many frames").click()
    page.get_by_role("button", name="Take the rendered drive").click()
    page.locator("#status-many", has_text="Done").wait_for()
    page.get_by_role("slider", name="Frame").focus()
    for number in (2, 3, 4):
        page.keyboard.press("ArrowRight")
        page.get_by_alt_text(f"Frame {number} of").wait_for()
    take(page, folder / "drive.jpg")


def serve_and_use(pipe: Any, browser: str, folder: Path) -> None:
    """Serve the demo on this machine and use it in a browser."""
    with tempfile.TemporaryDirectory() as thumbnails, sync_playwright() as driver:
        demo = build_page(pipe, Path(thumbnails))
        _, address, _ = demo.launch(prevent_thread_lock=True, **{**launch_options(), "quiet": True})
        window = driver.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        page = window.new_page(viewport={"width": 1000, "height": 900})
        page.set_default_timeout(PATIENCE)
        page.goto(address)
        use(page, folder)
        window.close()
        demo.close()


def main() -> int:
    """Parse the command line and take the pictures; 2 when something is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images", help="default: %(default)s")
    folder = parser.parse_args().output
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        print("error: there is no Chromium here (Debian: apt-get install chromium).", file=sys.stderr)
        return 2
    folder.mkdir(parents=True, exist_ok=True)
    check_checkpoint(str(CHECKPOINT))
    serve_and_use(load_pipeline(str(CHECKPOINT)), browser, folder)
    command = [sys.executable, str(ROOT / "scripts" / "ask.py"), "--scene", "24", "--overlay", "ask.png"]
    for text in ASKED:
        command += ["--text", text]
    return subprocess.run(command, cwd=folder, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
