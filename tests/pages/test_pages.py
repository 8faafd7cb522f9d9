"""Pages are valid, ask nothing of the network, and can be used by keyboard and by ear."""

import re
import shutil
import subprocess

import numpy as np
import pytest

from tests.elements import Elements
from vqcli.errors import UsageError
from vqcli.pages import images, inline, page, recordings
from vqcli.pages.parts import Film, Films, Image, Images, Page, Players, Section

EVIL = "</script><img src=x onerror=alert(1)>\"'&"


class Parsed(Elements):
    """A page; fails where ids repeat, a control has no name, or something is asked of the network."""

    def __init__(self, text):
        super().__init__(text)
        ids = [attributes["id"] for _, attributes in self.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        labels = {attributes.get("for") for attributes in self.all("label")}
        for tag, attributes in self.elements:
            if tag in ("input", "select", "audio", "svg"):
                named = attributes.get("aria-label") or attributes.get("id") in labels or "in label" in attributes
                assert named, (tag, attributes)
            if tag == "img":
                assert "alt" in attributes
            for name in ("src", "href", "srcset", "action", "data"):
                assert attributes.get(name, "data:").startswith(("data:", "#")), (tag, name)
            assert not any(name.startswith("on") for name in attributes)

    @property
    def code(self):
        return [text for tag, text in self.texts if tag == "code"]


@pytest.fixture(scope="module")
def a_page(scalar_model, vector_model, picture):
    """One of each part, with hostile names."""
    pixels = picture(48, 64)
    rows = list(images.rows(pixels, [scalar_model, vector_model], ["JPEG"], [1.0, 3.0]))
    comparison = images.compared(EVIL, pixels, rows, lambda coded: [f"vq info {EVIL}"])
    wave = np.sin(np.arange(16_000) / 9).astype(np.float32) / 4
    players = Players(EVIL, [recordings.player(EVIL, wave, EVIL, [EVIL])])
    grid = Images([Image(inline.drawing(pixels), 64, 48, EVIL, EVIL)], [EVIL])
    films = Films(EVIL, [Film(inline.strip([pixels, pixels]), 64, 48, EVIL, EVIL)], 2, 10.0, 1)
    return page.render(Page(EVIL, EVIL, [Section(EVIL, EVIL, [comparison, players, grid, films])] * 2, "vq"))


def test_a_page_is_valid_and_asks_nothing_of_the_network(a_page):
    parsed = Parsed(a_page)
    assert len(parsed.all("script")) == 1 and "default-src 'none'" in parsed.all("meta")[3]["content"]
    own = re.sub(r"data:[a-z]+/[a-z]+;base64,[\w+/=]+", "", a_page)
    assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttp", own)
    assert len(parsed.all("audio")) == 2 and parsed.all("audio")[0]["src"].startswith("data:audio/flac")
    shots = [each for each in parsed.all("figure") if "shot" in each.get("class", "")]
    assert [shot["data-codec"] for shot in shots[:4]] == ["original", "scalar", "vector", "JPEG"]


def test_codecs_get_no_more_bytes_than_the_model(scalar_model, picture):
    pixels = picture(96, 128)
    for own, jpeg in images.rows(pixels, [scalar_model], ["JPEG"], [1.0, 2.0]):
        size, fits = jpeg.point.size_bytes, len(jpeg.file[0])
        assert size == fits and own.point.size_bytes == len(own.encoded.data)
        assert jpeg.seconds > 0 and own.seconds > 0
    with pytest.raises(UsageError):
        images.at_bytes(pixels, "JPG", 1000)


def test_large_images_are_shown_in_part():
    whole = np.zeros((4000, 6000, 3), np.uint8)
    part = images.fitting(whole, 7, 4_000_000)
    assert 1.4 < part.shape[1] / part.shape[0] < 1.6
    assert part.shape[0] * part.shape[1] * 7 * images.BYTES_PER_PIXEL <= 4_010_000
    assert images.fitting(whole[:100, :100], 7, 4_000_000).shape == (100, 100, 3)
    assert images.fitting(whole, 1, 4_000_000, 40_000).size <= 3 * 40_100
    noise = np.random.default_rng(0).integers(0, 256, (400, 600, 3), np.uint8)  # of which a codec needs many bytes
    part = images.fitting(noise, 7, 500_000)
    assert 350_000 <= 7 * len(inline.photograph(part)) <= 500_000


def test_pictures_are_shown_as_they_are(picture):
    import base64
    from io import BytesIO

    from vqcli.media import image

    pixels = picture(20, 30)
    shown = image.read(BytesIO(base64.b64decode(inline.drawing(pixels).partition(",")[2]))).pixels
    assert (shown == pixels).all()
    smooth = np.broadcast_to(np.arange(128, dtype=np.uint8)[:, None, None], (128, 96, 3))
    near = image.read(BytesIO(base64.b64decode(inline.photograph(smooth).partition(",")[2]))).pixels
    assert np.abs(near.astype(int) - smooth).max() <= 4


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs a browser")
@pytest.mark.slow
def test_a_browser_shows_it(a_page, tmp_path):
    """The script runs to its end: the chosen points are marked, the divider has names at its sides."""
    (tmp_path / "page.html").write_text(a_page)
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command = ["chromium", *options, "--virtual-time-budget=2000", "--dump-dom", f"file://{tmp_path / 'page.html'}"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    assert 'class="scripted"' in shown and 'class="chosen s0"' in shown and 'data-mode="divider"' in shown
    assert re.search(r'<span class="right-name">scalar \d', shown) and "1 of 2, given" in shown
