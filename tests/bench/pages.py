"""Screenshots and pages of text: a model beside JPEG at equal bytes.

    python tests/bench/pages.py [MODEL]

Ten pages of 640 x 480 are drawn: an article, a terminal, code, a table, a form, two charts, a slide, a dark window and
a page as a scanner gives it. For each page and quality the margin in PSNR and in MS-SSIM (dB) above JPEG at the same
bytes is printed, and the least of them at the end. The texts are not those of vqcli/data/synthetic.py.
"""

import sys
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vqcli.evaluation.image import rate_distortion
from vqcli.evaluation.image.bd_rate import ms_ssim_db
from vqcli.zoo import loading

WIDTH, HEIGHT = 640, 480
QUALITIES = (1, 3, 5, 7, 9)
SENTENCE = (
    "The quick brown fox jumps over the lazy dog, while five boxing wizards jump quickly past a sphinx of black quartz "
    "that judges every vow. Pack my box with five dozen liquor jugs; how vexingly quick daft zebras jump! "
)


def canvas(paper: str) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (WIDTH, HEIGHT), paper)
    return image, ImageDraw.Draw(image)


def lines(pen: ImageDraw.ImageDraw, left: int, top: int, width: int, size: int, ink: str, count: int) -> None:
    """Lines of running text in a column."""
    font, words, at = ImageFont.load_default(size), (SENTENCE * 12).split(), 0
    for n in range(count):
        line = words[at]
        at += 1
        while at < len(words) and pen.textlength(f"{line} {words[at]}", font=font) < width:
            line, at = f"{line} {words[at]}", at + 1
        pen.text((left, top + n * (size + 4)), line, fill=ink, font=font)


def article() -> Image.Image:
    image, pen = canvas("white")
    pen.text((30, 20), "On the habits of foxes", fill="black", font=ImageFont.load_default(26))
    for left in (30, 335):
        lines(pen, left, 70, 275, 12, "black", 25)
    return image


def terminal() -> Image.Image:
    image, pen = canvas("#101418")
    font = ImageFont.load_default(13)
    for n in range(26):
        colour = ("#7ee787", "#c9d1d9", "#ffa657", "#79c0ff")[n % 4]
        pen.text((8, 8 + 18 * n), f"user@host:~$ make -j{n} test  [{n * 37 % 100:3d}%]  0x{n * 7919:06x}", colour, font)
    return image


def code() -> Image.Image:
    image, pen = canvas("#fdf6e3")
    font = ImageFont.load_default(14)
    for n in range(24):
        pen.text((10, 10 + 19 * n), f"{n + 1:3d}", "#93a1a1", font)
        left = 50 + 24 * (n % 4)
        pen.text((left, 10 + 19 * n), ("def", "for", "return", "while")[n % 4], "#859900", font)
        pen.text((left + 62, 10 + 19 * n), f"value_{n} = compute(x[{n}], y * {n * n})  # step {n}", "#586e75", font)
    return image


def table() -> Image.Image:
    image, pen = canvas("white")
    font = ImageFont.load_default(12)
    for row in range(20):
        if row % 2:
            pen.rectangle((0, 24 * row, WIDTH, 24 * row + 24), fill="#eef3fa")
        for column in range(8):
            pen.text((80 * column + 6, 24 * row + 5), f"{(row * 8 + column) * 1237 % 99991:,}", "black", font)
            pen.line((80 * column, 0, 80 * column, HEIGHT), fill="#b0b8c4")
    return image


def form() -> Image.Image:
    image, pen = canvas("#ececec")
    font = ImageFont.load_default(14)
    pen.rectangle((0, 0, WIDTH, 34), fill="#3367d6")
    pen.text((12, 8), "Settings", "white", font)
    for n in range(8):
        pen.text((30, 60 + 46 * n), f"Option number {n + 1}", "#222222", font)
        pen.rectangle((240, 54 + 46 * n, 600, 82 + 46 * n), fill="white", outline="#888888")
        pen.text((250, 60 + 46 * n), SENTENCE[n * 9 : n * 9 + 34], "#555555", font)
    pen.rectangle((500, 436, 600, 466), fill="#3367d6")
    pen.text((528, 443), "Save", "white", font)
    return image


def bars() -> Image.Image:
    image, pen = canvas("white")
    for n in range(12):
        height = 60 + n * 137 % 300
        pen.rectangle((50 + 46 * n, 430 - height, 84 + 46 * n, 430), fill=("#4e79a7", "#f28e2b", "#e15759")[n % 3])
        pen.text((54 + 46 * n, 436), f"M{n + 1}", "black", ImageFont.load_default(12))
    pen.line((40, 20, 40, 430), fill="black", width=2)
    pen.line((40, 430, 620, 430), fill="black", width=2)
    return image


def curves() -> Image.Image:
    image, pen = canvas("white")
    x = np.arange(50, 620)
    for n, colour in enumerate(("#1f77b4", "#d62728", "#2ca02c", "#9467bd")):
        y = 240 + (40 + 30 * n) * np.sin(x / (20 + 9 * n)) * np.exp(-x / 500)
        pen.line(list(zip(x.tolist(), y.tolist(), strict=True)), fill=colour, width=2)
    for n in range(10):
        pen.line((50, 40 + 42 * n, 620, 40 + 42 * n), fill="#dddddd")
        pen.text((14, 34 + 42 * n), f"{1 - n / 10:.1f}", "black", ImageFont.load_default(12))
    return image


def slide() -> Image.Image:
    image, pen = canvas("#0b2545")
    pen.text((40, 50), "Fewer bytes, same looks", "white", ImageFont.load_default(44))
    for n in range(4):
        pen.text((60, 160 + 64 * n), f"• {SENTENCE[n * 17 : n * 17 + 38]}", "#8da9c4", ImageFont.load_default(25))
    return image


def window() -> Image.Image:
    image, pen = canvas("#2b2b2b")
    pen.rectangle((0, 0, 150, HEIGHT), fill="#3c3f41")
    for n in range(16):
        pen.text((14, 14 + 28 * n), f"file_{n:02d}.txt", "#bbbbbb", ImageFont.load_default(13))
    lines(pen, 170, 16, 450, 13, "#a9b7c6", 26)
    return image


def scan() -> Image.Image:
    image = Image.new("L", (WIDTH, HEIGHT), 236)
    lines(ImageDraw.Draw(image), 40, 40, 560, 15, "#303030", 21)
    turned = np.asarray(image.rotate(0.7, Image.Resampling.BICUBIC, fillcolor=236)).astype(float)
    noise = np.random.default_rng(0).normal(0, 3, turned.shape)
    return Image.fromarray(np.clip(turned + noise, 0, 255).astype(np.uint8)).convert("RGB")


PAGES: tuple[Callable[[], Image.Image], ...] = (
    article, terminal, code, table, form, bars, curves, slide, window, scan
)  # fmt: skip


def main(name: str) -> None:
    pages = [np.asarray(page()) for page in PAGES]
    points = rate_distortion.evaluate(
        loading.load(name), [page.__name__ for page in PAGES], lambda n: pages[n], QUALITIES, codecs=["JPEG"]
    )
    least = [np.inf, np.inf]
    for ours in points:
        jpeg = next(points)
        margins = ours.psnr_db - jpeg.psnr_db, ms_ssim_db(ours.ms_ssim) - ms_ssim_db(jpeg.ms_ssim)
        fits = jpeg.size_bytes <= ours.size_bytes
        print(
            f"{ours.picture:9} quality {ours.quality:g}  {ours.bits_per_pixel:.3f} bits/pixel  "
            f"{ours.psnr_db:.2f} dB  JPEG {'' if fits else 'needs ' + format(jpeg.bits_per_pixel, '.3f')} "
            f"{jpeg.psnr_db:.2f} dB  margin {margins[0]:+.2f} dB PSNR, {margins[1]:+.2f} dB MS-SSIM"
        )
        if fits:
            least = [min(a, b) for a, b in zip(least, margins, strict=True)]
    print(f"least margin above JPEG at equal bytes: {least[0]:+.2f} dB PSNR, {least[1]:+.2f} dB MS-SSIM")


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["photo-2"]))
