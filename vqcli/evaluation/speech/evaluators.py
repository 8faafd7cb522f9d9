"""Judges of speech that other projects have trained: words, voice and quality. Needs the extra `evaluators`.

All work offline and take mono speech at 16 kHz as float32 [N], -1 .. 1. Levels count little: each is brought to
what its judge was trained on where that matters.

    words    pocketsphinx, its US English model: errors of words against a transcript
    voice    Resemblyzer (Wan et al. 2018, Generalized end-to-end loss): cosine of speaker embeddings
    quality  DNSMOS P.835 (Reddy et al. 2022): overall mean opinion score, 1 .. 5, without a reference
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vqcli.errors import BadFile, UsageError

RATE_HZ = 16_000
SHORTEST = RATE_HZ // 10  # samples; shorter clips say nothing to any judge
EXTRA = ("pocketsphinx", "resemblyzer", "speechmos")


def available() -> bool:
    """Whether the extra is installed, looked up without loading it."""
    return all(find_spec(name) is not None for name in EXTRA)


def require() -> None:
    """Raise UsageError if the extra is not installed or does not load: better before the work than after it."""
    _recogniser()
    _voice_encoder()
    _quality_judge()


@contextmanager
def _quiet(what: str) -> Iterator[None]:
    """Around what belongs to the judges: their warnings are none of the user's business, a missing one is."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImportError as error:
        hint = "pip install 'vqcli[evaluators]'"
        if error.name == "pkg_resources":
            hint = "pip install 'setuptools<81': resemblyzer's voice detector still imports pkg_resources"
        raise UsageError(f"{what} needs an extra that is not installed ({error.name})", hint) from None


# ---------------------------------------------------------------- words


class WordErrors(NamedTuple):
    errors: int  # substitutions, deletions and insertions
    words: int  # of the transcript


def read_transcript(path: Path) -> str:
    """The words of a .txt file beside a clip, as `normalised` gives them. Raises BadFile if it is not text.

    TIMIT's begin with the first and last sample, which are no words.
    """
    try:
        if path.stat().st_size > 100_000:
            raise BadFile(f"{path} is too long for a transcript")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise BadFile(f"{path} is no text") from None
    return normalised(re.sub(r"^\s*\d+ \d+ ", "", text))


def normalised(text: str) -> str:
    """Upper case, words parted by one space, no punctuation but apostrophes within words."""
    words = re.findall(r"[A-Z0-9]+(?:'[A-Z0-9]+)*", text.upper().replace("’", "'"))
    return " ".join(words)


def recognise(samples: np.ndarray) -> str:
    """What pocketsphinx hears, normalised. The outcome does not hang on what it heard before."""
    if len(samples) < SHORTEST:
        return ""
    decoder = _recogniser()
    peak = float(np.abs(samples).max()) or 1.0
    # its features are logarithms of 16-bit samples with a floor: quiet speech would drown in the floor
    pcm = np.round(samples * (0.7 / peak) * 32767).astype("<i2")
    decoder.start_utt()
    decoder.process_raw(pcm.tobytes(), no_search=False, full_utt=True)  # the mean of the whole clip is taken off
    decoder.end_utt()
    heard = decoder.hyp()
    return normalised(heard.hypstr) if heard else ""


def word_errors(samples: np.ndarray, text: str) -> WordErrors:
    """Word errors of what the recogniser hears against a transcript. Raises UsageError without the extra."""
    spoken = normalised(text).split()
    return WordErrors(edit_distance(spoken, recognise(samples).split()), len(spoken))


def edit_distance(a: Sequence[str], b: Sequence[str]) -> int:
    """Fewest insertions, deletions and substitutions that make b of a (Levenshtein 1966)."""
    row = list(range(len(b) + 1))
    for i, word in enumerate(a, 1):
        above, row = row, [i]
        for j, other in enumerate(b, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (word != other)))
    return row[-1]


@cache
def _recogniser() -> Any:
    with _quiet("counting wrong words"):
        from pocketsphinx import Decoder

    return Decoder(samprate=float(RATE_HZ), loglevel="FATAL")


# ---------------------------------------------------------------- voice


def voice(samples: np.ndarray) -> np.ndarray:
    """The speaker embedding of a clip, float32 [256] of length 1; volume raised and long pauses cut as it learned."""
    encoder = _voice_encoder()
    with _quiet("likeness of voices"):
        from resemblyzer import preprocess_wav

        heard = np.asarray(samples, np.float32)
        spoken = preprocess_wav(heard) if heard.any() else heard  # it cannot raise the volume of silence
        embedding: np.ndarray = encoder.embed_utterance(spoken if len(spoken) >= SHORTEST else heard)
    return embedding


def mean_voice(voices: Iterable[np.ndarray]) -> np.ndarray:
    """The embedding of a speaker from those of clips: their mean, of length 1. Raises UsageError if there are none."""
    total = np.sum(list(voices) or [np.zeros(1)], axis=0)
    if not (length := float(np.linalg.norm(total))):
        raise UsageError("there are no clips to know the speaker by")
    return np.asarray(total / length, np.float32)


def similarity(samples: np.ndarray, reference: np.ndarray) -> float:
    """Cosine of the embedding of a clip and one of `mean_voice`: 0 .. 1, other speakers mostly at 0.5 to 0.7."""
    return float(voice(samples) @ reference)


@cache
def _voice_encoder() -> Any:
    with _quiet("likeness of voices"):
        from resemblyzer import VoiceEncoder

        return VoiceEncoder("cpu", verbose=False)


# ---------------------------------------------------------------- quality


def dnsmos(samples: np.ndarray) -> float:
    """Overall quality by DNSMOS P.835, 1 .. 5, mean over windows of 9 s; shorter clips are repeated as it does."""
    judge = _quality_judge()
    if not len(samples):
        raise UsageError("an empty clip has no quality")
    with _quiet("quality of speech"):
        return float(judge.run(np.clip(samples, -1, 1).astype(np.float32), sr=RATE_HZ)["ovrl_mos"])


@cache
def _quality_judge() -> Any:
    with _quiet("quality of speech"):
        from speechmos import dnsmos

        return dnsmos
