"""The exact prior of a model: whether its bytes are the same everywhere, what rounding costs, how long it takes.

    python tests/bench/exact_prior.py PICTURES --model photo --crops 1000
    python tests/bench/exact_prior.py PICTURES --model tokens --floats RUN/best.safetensors

Crops of pictures become codes. Each is written as bytes with numbers of every kind, and read back; then again in
processes with one thread and two, with products for old processors, and with predictions one row of positions at a
time in place of thousands (the batch of this coder). All must give the same bytes and the codes. `--floats` compares
with the weights that the integers were made from. Last come seconds for a 12-megapixel mosaic of the pictures.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

KINDS = ("float32", "float64", "int64")
MACHINES = {
    "1 thread": {"OPENBLAS_NUM_THREADS": "1"},
    "2 threads": {"OPENBLAS_NUM_THREADS": "2"},
    "products for an old processor": {"OPENBLAS_NUM_THREADS": "1", "OPENBLAS_CORETYPE": "Nehalem"},
    "positions row by row": {"OPENBLAS_NUM_THREADS": "1", "BLOCK": "1"},
}
FEWER = {"float64": 200, "int64": 50}  # crops in numbers whose products are slow
MOSAIC = 3000, 4000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="*", type=Path)
    parser.add_argument("--model", default="photo")
    parser.add_argument("--crops", type=int, default=1000)
    parser.add_argument("--size", type=int, default=256, help="pixels of a crop")
    parser.add_argument("--floats", type=Path, help="safetensors with the float weights")
    parser.add_argument("--codes", type=Path, help=argparse.SUPPRESS)  # of the processes that this one starts
    parser.add_argument("--number", default="float32", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.codes:
        work(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        options.codes = Path(folder) / "codes.npz"
        cut(options)
        compare(options)
    if options.floats:
        rounding_loss(options)
    seconds(options)


def cut(options: argparse.Namespace) -> None:
    """Codes of crops, taken evenly over the pictures, at qualities that change from crop to crop."""
    import numpy as np
    import torch

    from vqcli.codec import tiling
    from vqcli.data.dataset import Dataset
    from vqcli.zoo import loading

    torch.set_num_threads(1)
    model, dataset = loading.load(options.model, "cpu"), Dataset(options.pictures, held_out=False)
    draw, found, tenths = np.random.default_rng(0), [], []
    for n in range(options.crops):
        pixels = dataset.pixels(n * 7919 % len(dataset))
        top, left = (int(draw.integers(max(1, side - options.size + 1))) for side in pixels.shape[:2])
        crop = pixels[top : top + options.size, left : left + options.size]
        quality = None if not tiling.qualities(model) else 1 + n % 91 / 10
        image = tiling.encode_image(model, crop, quality=quality)
        found.append(image.codes)
        tenths.append(image.quality)
    arrays = {str(n): codes for n, codes in enumerate(found)}
    np.savez(options.codes, tenths=np.array(tenths), **arrays)


def work(options: argparse.Namespace) -> None:
    """Print a digest of the bytes of each crop, and whether they came back."""
    import numpy as np

    from vqcli.entropy import prior2d
    from vqcli.zoo import priors, store

    prior2d.BLOCK = int(os.environ.get("BLOCK", prior2d.BLOCK))
    net, number = (
        net_of(priors.find(store.find(options.model), "exact"), store.find(options.model)),
        getattr(np, options.number),
    )
    with np.load(options.codes) as arrays:
        for n in range(options.crops):
            codes, tenths = arrays[str(n)].astype(np.int32), int(arrays["tenths"][n])
            data = prior2d.encode(codes, tenths, net, number)
            back = np.array_equal(prior2d.decode(data, codes.shape, tenths, net, number), codes)
            print(hashlib.sha256(data).hexdigest(), back, len(data), codes.size)


def net_of(info, model):
    """The integers beside a model; its codebooks are told by its quantizer, so the model is loaded for them."""
    from vqcli.zoo import loading, priors

    return priors.load_entropy_model(info, loading.load(model, "cpu").net.quantizer.codebook_sizes)


def compare(options: argparse.Namespace) -> None:
    reference: list[str] = []
    for number in KINDS:
        crops = min(options.crops, FEWER.get(number, options.crops))
        for name, environment in MACHINES.items():
            if number != "float32" and name not in ("1 thread", "2 threads"):
                continue
            arguments = [options.codes, "--number", number, "--crops", crops, "--model", options.model]
            command = [sys.executable, __file__, "--codes", *map(str, arguments)]
            done = subprocess.run(
                command, env={**os.environ, **environment}, capture_output=True, text=True, check=True
            )
            rows = [line.split() for line in done.stdout.splitlines()]
            reference = reference or [row[0] for row in rows]
            same = sum(row[0] == digest for row, digest in zip(rows, reference, strict=False))
            back = sum(row[1] == "True" for row in rows)
            bits = 8 * sum(int(row[2]) for row in rows) / sum(int(row[3]) for row in rows)
            print(
                f"{number:8} {name:30} {same} of {crops} equal bytes, {back} recovered, {bits:.4f} bits/code",
                flush=True,
            )


def rounding_loss(options: argparse.Namespace) -> None:
    """Bits of the integers beside those of the floats, on middles of the pictures at several qualities."""
    import numpy as np
    import torch
    from safetensors.torch import load_file

    from vqcli.codec import tiling
    from vqcli.data.dataset import Dataset
    from vqcli.entropy import prior2d
    from vqcli.nets.priors import rounding
    from vqcli.zoo import loading, priors, registry

    model = loading.load(options.model, "cpu")
    info = priors.find(model.info, "exact")
    net = registry.build("exact", info.description["arguments"]).eval()
    weights = {name.removeprefix("prior."): tensor.float() for name, tensor in load_file(options.floats).items()}
    net.load_state_dict({name: tensor for name, tensor in weights.items() if name in net.state_dict()})
    integers, dataset = rounding.rounded(net), Dataset(options.pictures, held_out=False)
    steps = tiling.qualities(model)
    for quality in [1, (steps + 1) // 2, steps] if steps else [None]:
        floats = written = 0.0
        for n in range(0, len(dataset), max(1, len(dataset) // 24)):
            image = tiling.encode_image(model, dataset.pixels(n)[:512, :512], quality=quality)
            codes = torch.from_numpy(image.codes.astype(np.int64))[None]
            with torch.no_grad():
                floats += float(net.loss(codes, torch.tensor([image.quality / 10]))) * codes.numel()
            written += 8 * len(prior2d.encode(image.codes.astype(np.int32), image.quality, integers))
        print(f"quality {quality}: integers {written / floats - 1:+.3%} beside floats, {floats / 8:,.0f} bytes")


def seconds(options: argparse.Namespace) -> None:
    """Seconds for a mosaic of pictures, with as many threads as there are cores."""
    import numpy as np

    from vqcli.codec import image_file, tiling
    from vqcli.container import vqz
    from vqcli.data.dataset import Dataset
    from vqcli.zoo import loading

    model, dataset = loading.load(options.model, "cpu"), Dataset(options.pictures, held_out=False)
    rows, width, n = [], MOSAIC[1], 0
    while sum(len(row) for row in rows) < MOSAIC[0]:
        row = []
        while sum(part.shape[1] for part in row) < width:
            pixels = dataset.pixels(n % len(dataset))
            row.append(np.broadcast_to(pixels, (*pixels.shape[:2], 3))[:200])
            n += 1
        height = min(len(part) for part in row)
        rows.append(np.concatenate([part[:height] for part in row], 1)[:, :width])
    image = tiling.encode_image(model, np.concatenate(rows)[: MOSAIC[0]])
    image_file.pack_image(model, tiling.encode_image(model, rows[0][:64, :64]), coder="prior")  # compiles
    for coder in ("prior", "adaptive"):
        parts, timed = {}, {}
        begun = time.perf_counter()
        header, payloads = image_file.pack_image(model, image, coder=coder)  # which decodes again to verify
        timed["pack and verify"] = time.perf_counter() - begun
        parts = vqz.unpack(vqz.pack(header, payloads))
        begun = time.perf_counter()
        image_file.unpack_image(model, parts)
        timed["decode"] = time.perf_counter() - begun
        shown = ", ".join(f"{name} {value:.2f} s" for name, value in timed.items())
        print(f"{MOSAIC[0]} x {MOSAIC[1]} pixels, {coder}: {sum(map(len, payloads)):,} bytes, {shown}")


if __name__ == "__main__":
    main()
