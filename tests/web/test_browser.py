"""The page by clicks and keys, in a browser without a window."""

import base64
import io
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from vqcli.media import image
from vqcli.web.app import DEMO

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no chromium")]

DROP = """([name, data]) => {
  const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0)), transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name));
  for (const kind of ["dragover", "drop"])
    document.querySelector(".drop").dispatchEvent(
      new DragEvent(kind, {dataTransfer: transfer, bubbles: true, cancelable: true}));
}"""
PIXELS = """async () => {
  const image = document.querySelector('.shot:not([data-step="-1"]) .window img:last-child');
  await image.decode();
  const size = {width: image.naturalWidth, height: image.naturalHeight};
  const canvas = Object.assign(document.createElement("canvas"), size);
  canvas.getContext("2d").drawImage(image, 0, 0);
  return [canvas.width, canvas.height, canvas.toDataURL("image/png").split(",")[1]];
}"""


@pytest.fixture(scope="module")
def explored():
    """A client of a server with the shipped models."""
    from tests.explorer import served
    from vqcli.web.library import Library

    with served(Library("cpu")) as made:
        yield made


@pytest.fixture
def page(explored):
    """The page, which must ask nothing of other hosts and write nothing of errors."""
    complaints = []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        url = f"http://127.0.0.1:{explored.port}/"
        page.on("request", lambda one: one.url.startswith((url, "data:", "blob:")) or complaints.append(one.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda one: one.type in ("error", "warning") and complaints.append(one.text))
        page.goto(url)
        page.wait_for_selector("#sample-of option", state="attached")
        yield page
        browser.close()
    assert not complaints


def done(page):
    playwright.expect(page.locator("#status p")).to_have_text(re.compile("^Done"), timeout=120_000)


def test_a_picture_is_dropped_coded_and_decodes_to_the_pixels_of_the_page(page, tmp_path):
    pixels = image.read(DEMO / "parrots.webp").pixels[100:260, 200:440]
    image.write(stream := io.BytesIO(), pixels, format="png")
    page.evaluate(DROP, ["my $&photo.png", base64.b64encode(stream.getvalue()).decode()])
    page.wait_for_selector("#result .comparison", timeout=120_000)
    done(page)
    first = page.locator("#result .figures td").first.text_content()
    slider = page.locator("#quality")
    slider.focus()
    for _ in range(6):
        slider.press("ArrowRight")
    assert page.locator("#quality-label").text_content() == "8"
    playwright.expect(page.locator("#result .figures td").first).not_to_have_text(first, timeout=120_000)
    done(page)
    assert "vq encode 'my $&photo.png' --model photo-2 --quality 8" in page.locator("#result code").first.text_content()
    with page.expect_download() as loading:
        page.locator("#result .downloads a[data-what=coded]").click()
    assert loading.value.suggested_filename == "my $&photo.vqz"
    loading.value.save_as(tmp_path / "photo.vqz")
    command = [sys.executable, "-m", "vqcli", "decode", "photo.vqz", "-o", "photo.png"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    width, height, png = page.evaluate(PIXELS)
    shown = image.read(io.BytesIO(base64.b64decode(png))).pixels
    assert (width, height) == (240, 160)
    assert np.array_equal(shown, image.read(tmp_path / "photo.png").pixels)


def test_a_sentence_gets_another_voice(page):
    page.click("[data-example=sentence]")
    page.wait_for_selector("#result .players", timeout=120_000)
    done(page)
    page.select_option("#to", "p225")
    page.click("#voice button")
    page.wait_for_selector("#result a[data-what=converted]", timeout=120_000)
    assert page.locator("#result .downloads a").first.get_attribute("download") == "talk-p225.wav"
    assert page.locator("#result audio").count() == 1


def test_samples_by_class_with_options(page):
    page.select_option("#class", "fox")
    page.click("summary")
    for field, value in (("count", "2"), ("seed", "7"), ("temperature", "0.8")):
        page.fill(f"#{field}", value)
    page.click("#sampling button.main")
    page.wait_for_selector("#sample-result .images", timeout=120_000)
    assert page.locator("#sample-result figcaption").all_text_contents() == ["fox", "fox"]
    told = page.locator("#sample-result code").first.text_content()
    assert told == "vq sample --model tokens --class fox -n 2 --seed 7 --temperature 0.8"
    assert page.locator("#sample-result .downloads a").count() == 5


def test_a_file_that_is_none_is_refused_in_words(page):
    page.set_input_files("#file", {"name": "x.png", "mimeType": "image/png", "buffer": b"<script>alert(1)</script>"})
    page.wait_for_selector("#status.wrong", timeout=120_000)
    assert "the input is text, not an image" in page.locator("#status p").text_content()
