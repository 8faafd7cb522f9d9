"""Pretrained evaluators of speech: word errors, speaker similarity, quality. Needs the extra `evaluators`.

All work offline and take mono speech at 16 kHz as float32 [N], -1 .. 1. Loudness matters little: it is normalised to
that of an evaluator's training data where needed.

    words    pocketsphinx, its US English model: word errors against a transcript
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
SHORTEST = RATE_HZ // 10  # samples; no evaluator can use shorter clips
EXTRA = ("pocketsphinx", "resemblyzer", "speechmos")


def available() -> bool:
    """Whether the extra is installed, without importing it."""
    return all(find_spec(name) is not None for name in EXTRA)


def require() -> None:
    """Raise UsageError if the extra is not installed or cannot be imported: call it before the work."""
    _recogniser()
    _voice_encoder()
    _dnsmos_model()


@contextmanager
def _quiet(what: str) -> Iterator[None]:
    """Hide the warnings of an evaluator; UsageError with a hint if it is not installed."""
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
    """The words of the .txt file of a clip, as `normalised` gives them. Raises BadFile if it is not text.

    TIMIT's begin with the numbers of the first and last sample, which are removed.
    """
    try:
        if path.stat().st_size > 100_000:
            raise BadFile(f"{path} is too long for a transcript")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise BadFile(f"{path} is not text") from None
    return normalised(re.sub(r"^\s*\d+ \d+ ", "", text))


def normalised(text: str) -> str:
    """Upper case, words separated by one space, no punctuation but apostrophes within words."""
    words = re.findall(r"[A-Z0-9]+(?:'[A-Z0-9]+)*", text.upper().replace("’", "'"))
    return " ".join(words)


def recognise(samples: np.ndarray) -> str:
    """The words that pocketsphinx recognises, normalised. The result does not depend on earlier calls."""
    if len(samples) < SHORTEST:
        return ""
    decoder = _recogniser()
    peak = float(np.abs(samples).max()) or 1.0
    # its features are logarithms of 16-bit samples with a floor: quiet speech would be below it
    pcm = np.round(samples * (0.7 / peak) * 32767).astype("<i2")
    decoder.start_utt()
    decoder.process_raw(pcm.tobytes(), no_search=False, full_utt=True)  # cepstral mean of the whole clip
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return normalised(hypothesis.hypstr) if hypothesis else ""


def word_errors(samples: np.ndarray, text: str) -> WordErrors:
    """Word errors of the recogniser against a transcript. Raises UsageError without the extra."""
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


def embedding(samples: np.ndarray) -> np.ndarray:
    """The speaker embedding of a clip, float32 [256] of length 1; loudness and pauses normalised."""
    encoder = _voice_encoder()
    with _quiet("speaker similarity"):
        from resemblyzer import preprocess_wav

        waveform = np.asarray(samples, np.float32)
        speech = preprocess_wav(waveform) if waveform.any() else waveform  # it cannot normalise silence
        vector: np.ndarray = encoder.embed_utterance(speech if len(speech) >= SHORTEST else waveform)
    return vector


def mean_embedding(embeddings: Iterable[np.ndarray]) -> np.ndarray:
    """The embedding of a speaker from those of clips: their mean, of length 1. Raises UsageError if there are none."""
    total = np.sum(list(embeddings) or [np.zeros(1)], axis=0)
    if not (length := float(np.linalg.norm(total))):
        raise UsageError("there are no clips of the speaker")
    return np.asarray(total / length, np.float32)


def similarity(samples: np.ndarray, reference: np.ndarray) -> float:
    """Cosine of the embedding of a clip and one of `mean_embedding`: 0 .. 1, other speakers mostly at 0.5 to 0.7."""
    return float(embedding(samples) @ reference)


@cache
def _voice_encoder() -> Any:
    with _quiet("speaker similarity"):
        from resemblyzer import VoiceEncoder

        return VoiceEncoder("cpu", verbose=False)


# ---------------------------------------------------------------- quality


def dnsmos(samples: np.ndarray) -> float:
    """Overall quality by DNSMOS P.835, 1 .. 5, mean over windows of 9 s; shorter clips are repeated."""
    model = _dnsmos_model()
    if not len(samples):
        raise UsageError("the quality of an empty clip is undefined")
    with _quiet("quality of speech"):
        return float(model.run(np.clip(samples, -1, 1).astype(np.float32), sr=RATE_HZ)["ovrl_mos"])


@cache
def _dnsmos_model() -> Any:
    with _quiet("quality of speech"):
        from speechmos import dnsmos

        return dnsmos
