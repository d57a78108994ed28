"""How the page looks: a theme without anything from elsewhere, a style sheet, and what Gradio leaves out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gradio.themes import Base

HERE = Path(__file__).parent
SANS = ("ui-sans-serif", "system-ui", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("ui-monospace", "Menlo", "Consolas", "monospace")

# Gradio rebuilds what is inside an HTML component, so the element around it is what has to be announced.
AFTER_LOADING = """() => {
  document.documentElement.lang = "en";
  for (const region of document.querySelectorAll(".live")) {
    region.setAttribute("role", "status");
    region.setAttribute("aria-live", "polite");
  }
  for (const [id, name] of [["upload", "Choose a frame"], ["upload-many", "Choose frames or a video"]]) {
    const button = document.querySelector(`#${id} button`);
    if (button) button.setAttribute("aria-label", name);
  }
  for (const picture of document.querySelectorAll(".scene img")) picture.alt = "";
}"""


def launch_options() -> dict[str, Any]:
    """Arguments of `launch` that belong to the page."""
    return {
        "theme": Base(primary_hue="blue", neutral_hue="stone", font=SANS, font_mono=MONO),
        "css_paths": HERE / "style.css",
        "js": AFTER_LOADING,
        "favicon_path": HERE / "favicon.svg",
        "footer_links": [],
        "ssr_mode": False,
        "max_file_size": "500mb",
        "show_error": True,
        "quiet": False,
    }
