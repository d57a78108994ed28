"""The demo, used as a visitor would: in a browser, with pointer and keyboard, wide and narrow."""

from urllib.parse import urlsplit

import numpy as np
import pytest
from tiny_checkpoint import ANSWERS, QUESTIONS

SLOW = 180_000  # milliseconds; a busy machine answers late


@pytest.fixture
def page(browser, address):
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.set_default_timeout(SLOW)
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(address)
    page.get_by_role("heading", name="TrafficVLM").wait_for()
    page.locator("#status[role=status]").wait_for()  # `AFTER_LOADING` comes some time after the heading
    yield page
    hosts = {urlsplit(url).hostname for url in page.asked if url.startswith("http")}
    assert hosts == {"127.0.0.1"}, "nothing comes from elsewhere"
    context.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory, pictures):
    folder = tmp_path_factory.mktemp("frames")
    for color, picture in pictures.items():
        picture.save(folder / f"{color}.png")
    (folder / "broken.jpg").write_bytes(b"not a picture at all")
    return folder


def upload(page, *paths, where="upload"):
    page.locator(f"#{where} input[type=file]").set_input_files([str(path) for path in paths])


def nothing_is_cut_off(page):
    for width in (400, 1200):
        page.set_viewport_size({"width": width, "height": 900})
        # Gradio lays its tabs out anew some time after the window has changed.
        page.wait_for_function(f"document.documentElement.scrollWidth <= {width}", timeout=SLOW)


def test_upload_ask_and_look(page, files, tmp_path):
    upload(page, files / "red.png")
    page.get_by_alt_text("The frame that is asked about: red.png").wait_for()
    page.get_by_label("Question", exact=True).fill(QUESTIONS[0])
    page.get_by_role("button", name="Ask", exact=True).click()
    page.locator("#status", has_text="Done").wait_for()
    assert page.locator(".card .answer").inner_text() == ANSWERS["red"][0]
    assert int(page.get_by_role("meter", name="Confidence").get_attribute("aria-valuenow")) > 50
    assert (
        page.locator(".heat img").get_attribute("alt").startswith("Heat map over the frame. Looked most at")
    )
    assert "Faithfulness" in page.locator(".card").inner_text()
    page.screenshot(path=tmp_path / "answer.png", full_page=True)
    assert (tmp_path / "answer.png").stat().st_size > 20_000
    nothing_is_cut_off(page)


def test_a_heat_map_never_stands_without_its_score(page, files):
    page.evaluate(
        """() => { window.bare = window.testing = 0; new MutationObserver(() => {
            window.testing += document.body.innerText.includes("Testing whether the heat map is faithful");
            for (const card of document.querySelectorAll(".card"))
              if (card.querySelector(".heat img") && !card.querySelector(".faith")) window.bare++;
        }).observe(document.body, {childList: true, subtree: true}); }"""
    )
    upload(page, files / "blue.png")
    page.get_by_alt_text("The frame that is asked about: blue.png").wait_for()
    page.get_by_role("button", name=QUESTIONS[1]).click()
    page.locator(".heat img").wait_for()
    assert page.evaluate("window.testing") > 0, "it is said while it is tested"
    assert page.evaluate("window.bare") == 0


def test_a_question_is_tapped_with_the_keyboard_and_compared(page, files):
    upload(page, files / "green.png")
    page.get_by_alt_text("The frame that is asked about: green.png").wait_for()
    second = page.get_by_label("Compare with another question (optional)")
    second.fill(QUESTIONS[1])
    page.keyboard.press("Enter")
    chip = page.get_by_role("button", name=QUESTIONS[0])
    chip.focus()
    page.keyboard.press("Enter")
    page.locator("#status", has_text="Done").wait_for()
    assert page.locator(".card .answer").all_inner_texts() == list(ANSWERS["green"])
    left, right = (card.bounding_box() for card in page.locator(".card").all())
    assert left["y"] == right["y"], "side by side"
    assert left["x"] < right["x"]


def test_a_bad_file_is_explained_in_the_page_and_the_frame_stays(page, files):
    upload(page, files / "red.png")
    page.get_by_alt_text("The frame that is asked about: red.png").wait_for()
    upload(page, files / "broken.jpg")
    said = page.locator("#status [role=alert]")
    said.wait_for()
    assert "broken.jpg" in said.inner_text()
    assert "/" not in said.inner_text(), "no path of the server"
    assert page.get_by_alt_text("The frame that is asked about: red.png").is_visible()


def test_a_new_frame_ends_what_is_still_said_of_the_one_before(pipe, tmp_path):
    """Testing a heat map takes seconds, in which the visitor may pick another frame."""
    pytest.importorskip("skia")
    from traffic_vlm.app.page import build_page

    events = build_page(pipe, tmp_path).config["dependencies"]
    asking = {event["id"] for event in events if event["outputs"] and event["queue"] is not False}
    (uploading,) = [event for event in events if ("upload" in str(event["targets"])) and event["cancels"]]
    ask = next(event for event in events if event["api_name"] == "ask")
    assert ask["id"] in uploading["cancels"]
    assert set(uploading["cancels"]) <= asking
    ends = [event for event in events if event["cancels"]]
    assert len(ends) >= 2, "rendered scenes as well"
    assert all(event["cancels"] == uploading["cancels"] for event in ends)


def test_asking_without_a_frame_says_what_to_do(page):
    page.get_by_role("button", name="Ask", exact=True).click()
    page.get_by_text("Choose a frame or a scene first.").wait_for()


def test_a_scene_is_rendered(page):
    pytest.importorskip("skia")
    page.get_by_role("button", name="Night").click()
    page.get_by_alt_text("The frame that is asked about: rendered scene 4").wait_for()


def test_many_frames_are_scrubbed_with_the_arrow_keys(page, files):
    page.get_by_role("tab", name="Many frames").click()
    page.get_by_label("Questions, one a line").fill("\n".join(QUESTIONS))
    upload(page, *sorted(files.iterdir()), where="upload-many")
    page.locator("#status-many", has_text="Done: 3 frames").wait_for()
    assert "broken.jpg" in page.locator("#status-many").inner_text()
    assert "/" not in page.locator("#status-many").inner_text(), "no path of the server"
    assert not page.locator("#status-many").inner_text().endswith("..")
    assert page.locator(".one figcaption").inner_text().startswith("Frame 1 of 3")
    slider = page.get_by_role("slider", name="Frame")
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.get_by_alt_text("Frame 2 of 3: green.png").wait_for()
    assert page.locator(".battery td:nth-child(2)").all_inner_texts() == list(ANSWERS["green"])
    assert page.locator(".timeline tbody td").count() == 6
    assert page.locator(".timeline th.now").inner_text() == "2"
    nothing_is_cut_off(page)


def test_of_very_many_files_the_first_are_read_and_the_page_says_so(pipe, pictures):
    from traffic_vlm.app.page import MOST_FRAMES, ask_about_all

    def status_of(count):
        frames = ((f"{number}.png", pictures["red"]) for number in range(count))
        return [shown[0] for shown in ask_about_all(pipe, frames, QUESTIONS[0])][-1]

    cut = f"Only the first {MOST_FRAMES} files were read"
    assert f"Done: {MOST_FRAMES} frames" in status_of(MOST_FRAMES)
    assert cut not in status_of(MOST_FRAMES)
    assert f"Done: {MOST_FRAMES} frames" in status_of(MOST_FRAMES + 1)
    assert cut in status_of(MOST_FRAMES + 1)


def test_a_folder_and_a_video_are_asked_about_as_well(page, files, tmp_path):
    av = pytest.importorskip("av", reason="needs the extra [video]")
    from traffic_vlm.app.page import VIDEO_FRAMES_A_LOOK

    path = tmp_path / "drive.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 176, "yuv420p"
        for _ in range(VIDEO_FRAMES_A_LOOK + 1):
            green = np.full((176, 320, 3), (0, 128, 0), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(green, format="rgb24")))
        container.mux(stream.encode())
    page.get_by_role("tab", name="Many frames").click()
    page.get_by_label("Questions, one a line").fill(QUESTIONS[1])
    with page.expect_file_chooser() as choosing:
        page.get_by_role("button", name="Choose a folder").click()
    choosing.value.set_files(str(files))
    page.locator("#status-many", has_text="Done: 3 frames").wait_for()
    upload(page, path, where="upload-many")
    page.locator("#status-many", has_text="Done: 2 frames").wait_for()
    assert "drive.mp4@0.000s" in page.locator(".one figcaption").inner_text()
    assert page.locator(".battery td:nth-child(2)").inner_text() == ANSWERS["green"][1]


def test_it_can_be_used_without_seeing_it(page):
    assert page.locator("html").get_attribute("lang") == "en"
    status = page.locator("#status")
    assert (status.get_attribute("role"), status.get_attribute("aria-live")) == ("status", "polite")
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("button, input:not([type=file]), textarea")]
            .filter(e => e.checkVisibility())
            .filter(e => !(e.innerText.trim() || e.ariaLabel || e.labels?.length || e.title))
            .map(e => e.outerHTML.slice(0, 120))"""
    )
    assert unnamed == [], "everything that can be used has a name"
    assert page.evaluate("[...document.images].every(image => image.hasAttribute('alt'))")
    order = []
    name = "document.activeElement.innerText || document.activeElement.ariaLabel || document.activeElement.id"
    while len(order) < 40 and order.count("Skip to the answers") < 2:
        page.keyboard.press("Tab")
        order.append(page.evaluate(name))
    wanted = ["Skip to the answers", "Red light", "Render another", QUESTIONS[0], "Ask"]
    assert [name for name in order[:-1] if name in wanted] == wanted
