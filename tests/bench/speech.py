"""How much faster than it is spoken `speech` hears, speaks and converts, on one thread.

    python tests/bench/speech.py [MODEL]

The sentence of the demo, said twelve times over: a minute. The median of five runs; the net alone, no files.
"""

import os
import statistics
import sys
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch

import vqcli
from vqcli.codec import conversion, voices, windows
from vqcli.codec.codes import keep_levels
from vqcli.media import audio
from vqcli.zoo import loading

torch.set_num_threads(1)
RUNS = 5


def seconds(work):
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main(name: str = "speech") -> None:
    model = loading.load(name, "cpu")
    clip = audio.read(Path(vqcli.__file__).parent / "demo" / "talk.opus", model.net.rate_hz, mono=True)
    recording = audio.from_samples(np.tile(clip.samples, 12), clip.rate_hz, clip.rate_hz, mono=True)
    codes = windows.encode_audio(model, recording)
    target = voices.speakers(model.info)[0].name

    def decode(some):
        return lambda: [None for _ in windows.decode_audio(model, some)]

    works = {
        "encode (pitch, profile, codes)": lambda: windows.encode_audio(model, recording),
        **{
            f"decode {level} of {model.net.levels} levels": decode(keep_levels(model, codes, level))
            for level in range(1, model.net.levels + 1)
        },
        f"convert codes to {target}": lambda: decode(conversion.convert(codes, target, model))(),
        f"convert a recording to {target}": lambda: decode(conversion.convert(recording, target, model))(),
    }
    times = {title: [] for title in works}
    for _ in range(RUNS):  # in turns, so that a busy moment hits all
        for title, work in works.items():
            times[title].append(seconds(work))
    for title, taken in times.items():
        print(f"{title:32} {recording.length_s / statistics.median(taken):6.1f} x real time")


if __name__ == "__main__":
    main(*sys.argv[1:])
