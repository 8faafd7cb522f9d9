"""The models that a server has: by their names or digests, never by a path that a client sends."""

from __future__ import annotations

import threading
from collections import OrderedDict

import msgspec

from vqcli.codec import voices
from vqcli.container.header import Header
from vqcli.errors import ModelError, near_matches
from vqcli.sampling import image, speech
from vqcli.zoo import loading, priors, store
from vqcli.zoo.loading import LoadedModel
from vqcli.zoo.store import ModelInfo

KEPT = 4  # models in memory
PREFERRED = (image.PREFERRED, speech.PREFERRED)  # to sample from


class Model(msgspec.Struct, frozen=True):
    """A model, as it says itself without its weights.

    modality  "image", also of clips, or "audio"
    default   whether it is taken where none is named
    classes   of images that it samples, () if it samples none by class
    speakers  whose voices it has
    actions   of clips that it samples
    samples   what it has a prior of: "image", "audio", "video"
    sampling  temperature and guidance that its priors ask for, by what they make
    """

    name: str
    modality: str
    default: bool
    description: str
    classes: tuple[str, ...] = ()
    speakers: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    samples: tuple[str, ...] = ()
    sampling: dict[str, dict[str, float]] = {}


class Details(msgspec.Struct, frozen=True):
    """What is known of a model with its weights.

    qualities   how many whole steps of quality it has, 0 if it has but one
    tunes       what its encoder can aim at
    levels      residual levels
    searchable  whether it has `effort`
    frame_size  height and width of the only images that it takes, none if it takes all
    """

    model: Model
    qualities: int
    tunes: tuple[str, ...]
    levels: int
    searchable: bool
    frame_size: tuple[int, int] | None


class Library:
    """Models on the search path, and the ones that whoever runs the server has `named`, which come first."""

    def __init__(self, device: str = "auto", named: tuple[ModelInfo, ...] = ()) -> None:
        self.device, self.named = device, named
        self._infos = {info.name: info for info in (*store.list_models(), *named)}
        self._defaults = store.DEFAULTS | {info.modality: info.name for info in reversed(named)}
        if any(info.modality == "image" for info in named):
            self._defaults["video"] = self._defaults["image"]
        self._loaded: OrderedDict[str, LoadedModel] = OrderedDict()
        self._digests: dict[tuple[str, bool], bytes | None] = {}
        self._lock = threading.RLock()

    def all(self) -> list[Model]:
        return [self.describe(info) for info in self._infos.values()]

    def find(self, name: str | None, modality: str) -> ModelInfo:
        """The model of that name, or the default one for a medium. Raises ModelError."""
        name = name or self._defaults[modality]
        if name not in self._infos:
            raise ModelError(f"this server has no model {name[:80]}", near_matches(name, self._infos))
        return self._infos[name]

    def sampler(self, name: str | None, made: str) -> ModelInfo:
        """The model of that name, or the usual one, that samples what is `made`: "image", "audio" or "video". Raises
        ModelError."""
        able = [info for info in self._infos.values() if made in self.describe(info).samples]
        if name is None and able:
            return next((info for info in able if info.name in PREFERRED), able[0])
        for info in able:
            if info.name == name:
                return info
        raise ModelError(
            f"no model {(name or '')[:80]} here samples {made}", near_matches(name or "", [info.name for info in able])
        )

    def load(self, info: ModelInfo) -> LoadedModel:
        """A model with its weights; the last few stay in memory."""
        with self._lock:
            if info.name not in self._loaded:
                self._loaded[info.name] = loading.load(info, self.device)
                if len(self._loaded) > KEPT:
                    self._loaded.popitem(last=False)
            self._loaded.move_to_end(info.name)
            return self._loaded[info.name]

    def load_for(self, header: Header) -> LoadedModel:
        """The model with the digest that a file names; the name in the file only says which is looked at first."""
        with self._lock:
            for info in sorted(self._infos.values(), key=lambda info: info.name != header.model):
                key = info.name, header.joint
                if key not in self._digests:  # which costs reading the model
                    self._digests[key] = store.digest_in(info.folder, header.joint)
                if self._digests[key] == header.digest:
                    return self.load(info)
        raise ModelError(
            f"the file needs model {header.model} ({header.digest.hex()}), which this server does not have",
            "vq explore --model FOLDER adds one",
        )

    def describe(self, info: ModelInfo) -> Model:
        classes: tuple[str, ...] = ()
        actions: tuple[str, ...] = ()
        samples: list[str] = []
        defaults: dict[str, dict[str, float]] = {}
        with self._lock:
            for prior in _priors(info):
                made = {"pixelcnn": "image", "frames": "video", "wavenet": "audio"}.get(prior.family)
                if made is None:
                    continue
                samples.append(made)
                defaults[made] = prior.defaults
                classes = prior.classes if made == "image" else classes
                actions = prior.classes if made == "video" else actions
        speakers = tuple(each.name for each in voices.speakers(info)) if info.description.get("speakers") else ()
        default = self._defaults[info.modality] == info.name
        text = (info.description.get("recipe") or {}).get("description", "")
        return Model(
            info.name, info.modality, default, text, classes, speakers, actions, tuple(samples), defaults
        )  # fmt: skip

    def details(self, info: ModelInfo) -> Details:
        net = self.load(info).net
        image = info.modality == "image"
        return Details(
            self.describe(info),
            net.qualities if image else 0,
            tuple(net.tunes) if image else (),
            net.levels,
            image and getattr(net, "searchable", False),
            net.frame_size if image else None,
        )


def _priors(info: ModelInfo) -> list[priors.PriorInfo]:
    """Those beside a model; none if one of them is broken, which sampling will say."""
    try:
        return priors.beside(info)
    except ModelError:
        return []
