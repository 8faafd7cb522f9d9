"""All experiments of the paper and of the report: what was measured there, and how it is run here.

"The paper" is van den Oord et al., Neural Discrete Representation Learning (arXiv 1711.00937), "the report" that of
Kumar, Deleu and Racah. The figures of the shipped models are in their cards (figures.py); an experiment without
one is open. `vq reproduce` shows the table and runs a row (reproduce.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vqcli.errors import UsageError, near_matches


@dataclass(frozen=True)
class Data:
    """The data of an experiment.

    title    its name
    folder   its folder in the commands of the table
    comes    where to get it
    side     width and height in pixels, and the number of classes, where fixed
    usual    folder of the system's package
    """

    title: str
    folder: str
    comes: str
    side: int | None = None
    classes: int | None = None
    usual: Path | None = None


@dataclass(frozen=True)
class Variant:
    """One net of an experiment: a recipe, changed by settings as `vq train --set` takes them.

    `prior` is the recipe of a prior or second stage that is trained on its codes afterwards, and is measured.
    """

    label: str
    recipe: str
    settings: tuple[str, ...] = ()
    prior: str | None = None


@dataclass(frozen=True)
class Experiment:
    """One row.

    where          sections and figures of the two documents
    title          what is shown
    measure        what its figure is, with the unit
    paper, report  their figures; "" if they have none
    data           what it is run on, a name of DATA; "" if it cannot be run here
    measures         how a model is measured, names of measures.MEASURES
    variants       the nets that `vq reproduce` trains
    models         the shipped models that it measures instead, where it trains none
    commands       commands that reproduce the row from data
    """

    name: str
    where: str
    title: str
    measure: str
    paper: str = ""
    report: str = ""
    data: str = ""
    measures: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = ()
    models: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


DATA = {
    "mnist": Data("MNIST", "mnist/", "its idx files, train-images-idx3-ubyte and so on, gzipped or not", 28, 10),
    "fashion-mnist": Data(
        "Fashion-MNIST",
        "fashion-mnist/",
        "Debian's package dataset-fashion-mnist, or the idx files of github.com/zalandoresearch/fashion-mnist",
        28,
        10,
        Path("/usr/share/datasets/fashion-mnist"),
    ),
    "cifar10": Data(
        "CIFAR-10",
        "cifar10/",
        "the binary version of www.cs.toronto.edu/~kriz/cifar.html, unpacked; or an .npz of x_train, y_train and so on",
        32,
        10,
    ),
    "photographs": Data("photographs", "kodak/", "any folder; the 24 of Kodak are at r0k.us/graphics/kodak"),
    "animals": Data("photographs by class", "animals/", "a folder of photographs for each class"),
    "clips": Data("clips of speech", "clips/", "a folder for each speaker, from VCTK and LibriSpeech (openslr.org)"),
    "boxing": Data("a recording of Atari Boxing", "boxing/", "made by vq record boxing --frames 60000 -o boxing/", 84),
    "doom": Data("a recording of a maze", "doom/", "made by vq record doom --frames 60000 -o doom/", 84),
    "phonemes": Data("clips with phonemes", "timit/", "a folder for each speaker, .phn or .lab files beside the clips"),
}

UNIFORM = "bits/dim, test pictures, uniform prior"
EQ_7 = "nats by its eq. 7, no bits/dim"
NOT_EQ_7 = "nats; not by its eq. 7, which cannot fall below 5.771"
LIKELY, SEEN = ("likelihood",), ("likelihood", "reconstruction", "equation-7")
BETA, BATCH = "model.arguments.quantizer.beta", "data.batch"
FROZEN = ('model.arguments.quantizer.update="frozen"', "model.arguments.quantizer.revive=0.0")

EXPERIMENTS = (
    # ------------------------------------------------------------ the paper
    Experiment(
        "cifar10", "paper 4.1", "VQ-VAE on CIFAR-10: 8 x 8 x 10 latents, K = 512", UNIFORM,
        paper="4.67", report="see cifar10-report",
        data="cifar10", measures=SEEN, variants=(Variant("vqvae", "cifar10-vqvae"),),
    ),
    Experiment(
        "cifar10-vae", "paper 4.1, report table 1", "beside it: continuous VAE, Gaussian posterior",
        "bits/dim, test pictures", paper="4.51", report=f"5.681 {NOT_EQ_7}",
        data="cifar10", measures=LIKELY, variants=(Variant("vae", "cifar10-vae"),),
    ),
    Experiment(
        "cifar10-vimco", "paper 4.1", "beside it: categorical latents by VIMCO, 50 samples",
        "bits/dim, test pictures", paper="5.14",
        data="cifar10", measures=LIKELY, variants=(Variant("vimco", "cifar10-vimco"),),
    ),
    Experiment(
        "cifar10-capacity", "paper 4.1", "fewer latents, smaller codebooks", UNIFORM,
        paper="varied, no figures given", data="cifar10", measures=LIKELY,
        variants=(
            Variant("10-groups", "cifar10-vqvae"),
            Variant("5-groups", "cifar10-vqvae", ("model.arguments.quantizer.groups=5",)),
            Variant("1-group", "cifar10-vqvae", ("model.arguments.quantizer.groups=1",)),
            Variant("k-64", "cifar10-vqvae", ("model.arguments.quantizer.K=64",)),
        ),
    ),
    Experiment(
        "imagenet-128", "paper 4.2, figure 2", "ImageNet at 128 x 128 to 32 x 32 codes and back, 42.6 times fewer bits",
        "PSNR of reconstructions", paper="pictures, slightly blurrier", report="see mini-imagenet",
        data="photographs", measures=("reconstruction",), models=("tokens",),
        commands=("vq train imagenet-128 imagenet/ -o my-imagenet", "vq eval imagenet/val --model ./my-imagenet"),
    ),
    Experiment(
        "imagenet-128-samples", "paper 4.2, figure 3", "pictures by class, drawn from a PixelCNN over the codes",
        "drawn pictures that a classifier names right", paper="pictures", report="see uniform-prior",
        data="animals", measures=("samples",), models=("tokens",),
        commands=(
            "vq train imagenet-128-prior imagenet/ -o my-samples --codec ./my-imagenet",
            "vq eval samples imagenet/ --model ./my-samples",
        ),
    ),
    Experiment(
        "lab-frames", "paper 4.2, figure 4",
        "84 x 84 frames of a maze of vizdoom, in place of DeepMind Lab, to 21 x 21 codes; drawn from a prior",
        "PSNR; bits a code under the prior", paper="pictures, nearly identical", report="see boxing",
        data="doom", measures=("frames",), variants=(Variant("doom", "doom", prior="doom-video"),),
    ),
    Experiment(
        "lab-27bit", "paper 4.2, figure 5", "a second VQ-VAE over those codes, PixelCNN decoder: 27 bits",
        "bits a code of the first stage, with right and with shuffled latents",
        paper="pictures: layout kept, textures made up; no posterior collapse", report="see boxing-27bit",
        data="doom", measures=("latents",), variants=(Variant("doom", "doom", prior="doom-27bit"),),
    ),
    Experiment(
        "posterior-collapse", "paper 4.2",
        "a VAE in place of the second VQ-VAE, with the same PixelCNN decoder: whether latents are used",
        "bits that the latents hold of a frame; bits a code, with right and with shuffled latents",
        paper="such a setup breaks VAEs; the VQ-VAE uses its latents",
        commands=(
            "vq train boxing-27bit-vae boxing/ -o my-vae --codec boxing",
            "vq train boxing-27bit boxing/ -o my-vq --codec boxing --set model.arguments.auxiliary=0.0",
        ),
    ),
    Experiment(
        "speech-reconstruction", "paper 4.3", "waveforms to 64 times fewer codes (VCTK), and back by a WaveNet",
        "words misheard, log-mel correlation", paper="sounds: same words, other prosody",
        data="clips", measures=("speech",), models=("speech-wavenet", "speech"),
        commands=("vq train speech-wavenet vctk/ -o my-speech", "vq eval clips/ --model ./my-speech"),
    ),
    Experiment(
        "speech-samples", "paper 4.3", "speech from a prior over codes 128 times fewer (LibriSpeech, 460 speakers)",
        "bits a code of held-out clips", paper="sounds: clear words and part-sentences",
        models=("speech",),
        commands=(
            "vq train speech-wavenet-128 librispeech/ -o my-speech",
            "vq train wavenet librispeech/ -o my-babble --codec ./my-speech",
            "vq sample --model ./my-babble --prior wavenet --seconds 4 -o babble.wav",
        ),
    ),
    Experiment(
        "speaker-conversion", "paper 4.3, figure 6", "codes of one speaker in the voice of another",
        "words misheard, likeness of voices", paper="sounds: same words, other voice",
        data="clips", measures=("conversion",), models=("speech",),
        commands=("vq train speech clips/ -o my-speech", "vq eval conversion clips/ --to p225 --model ./my-speech"),
    ),
    Experiment(
        "phonemes", "paper 4.3", "K = 128 codes at 25 Hz, each standing for the phoneme it meets most often",
        "phonemes named right", paper="49.3 % of 41 classes (most common phoneme: 7.2 %)",
        data="phonemes", measures=("phonemes",), models=("speech-25hz",),
        commands=(
            "vq train speech-25hz clips/ -o my-codes",
            "vq train speech-wavenet-640 clips/ -o my-waves",
            "vq eval phonemes timit/ --model ./my-codes",
        ),
    ),
    Experiment(
        "video", "paper 4.4, figure 7", "video predicted in the latent space: 10 frames after 6, by actions",
        "drawn transitions whose action a classifier names right", paper="pictures, no degradation",
        report="not tried: details lacking",
        data="doom", measures=("actions",), variants=(Variant("doom", "doom", prior="doom-video"),),
    ),
    # ------------------------------------------------------------ the report
    Experiment(
        "cifar10-report", "report 2.1, figure 3, table 1", "CIFAR-10 with 8 x 8 x 1 latents, and reconstructions",
        UNIFORM, report=f"5.852 {EQ_7}",
        data="cifar10", measures=SEEN, variants=(Variant("vqvae", "cifar10-report"),),
    ),
    Experiment(
        "cifar10-samples", "report 2.1, figure 4", "CIFAR-10 by class, from a PixelCNN",
        "drawn pictures that a classifier names right", report="pictures",
        data="cifar10", measures=("samples",),
        variants=(Variant("vqvae", "cifar10-report", prior="cifar10-prior"),),
    ),
    Experiment(
        "mnist", "report 2.1, figure 3, table 1", "MNIST with 7 x 7 x 1 latents, and reconstructions", UNIFORM,
        report=f"6.221 {EQ_7}",
        data="mnist", measures=SEEN, variants=(Variant("vqvae", "mnist"),),
    ),
    Experiment(
        "mnist-vae", "report table 1", "beside it: continuous VAE", "bits/dim, test pictures",
        report=f"5.705 {NOT_EQ_7}",
        data="mnist", measures=LIKELY, variants=(Variant("vae", "mnist-vae"),),
    ),
    Experiment(
        "mnist-samples", "report 2.1, figure 4", "MNIST by class, from a PixelCNN",
        "drawn pictures that a classifier names right", report="pictures",
        data="mnist", measures=("samples",),
        variants=(Variant("vqvae", "mnist", prior="mnist-prior"),),
    ),
    Experiment(
        "fashion-mnist", "report A, figure 11, table 1", "Fashion-MNIST with 7 x 7 x 1 latents, and reconstructions",
        UNIFORM, report=f"6.228 {EQ_7}",
        data="fashion-mnist", measures=SEEN, variants=(Variant("vqvae", "fashion-mnist"),),
    ),
    Experiment(
        "fashion-mnist-vae", "report table 1", "beside it: continuous VAE", "bits/dim, test pictures",
        report=f"5.685 {NOT_EQ_7}",
        data="fashion-mnist", measures=LIKELY, variants=(Variant("vae", "fashion-mnist-vae"),),
    ),
    Experiment(
        "fashion-mnist-samples", "report A, figure 12", "Fashion-MNIST by class, from a PixelCNN",
        "drawn pictures that a classifier names right", report="pictures",
        data="fashion-mnist", measures=("samples",),
        variants=(Variant("vqvae", "fashion-mnist", prior="fashion-mnist-prior"),),
    ),
    Experiment(
        "beta", "paper 3.2, report 2.1", "commitment by beta = 0.25 against 1", UNIFORM,
        paper="no difference from 0.1 to 2", report="1 is stabler; 0.25 diverged after 50 epochs",
        data="mnist", measures=LIKELY,
        variants=(Variant("beta-0.25", "mnist", (f"{BETA}=0.25",)), Variant("beta-1", "mnist", (f"{BETA}=1.0",))),
    ),
    Experiment(
        "batch", "report 2.1", "batches of 32 against 128, in equal time", UNIFORM,
        paper="128 (4.1)", report="32 converges much faster",
        data="mnist", measures=LIKELY,
        variants=(Variant("batch-32", "mnist", (f"{BATCH}=32",)), Variant("batch-128", "mnist", (f"{BATCH}=128",))),
    ),
    Experiment(
        "batch-norm", "report 2.1", "batch normalisation on MNIST: without and with", UNIFORM,
        report="essential, on MNIST alone",
        data="mnist", measures=LIKELY,
        variants=(
            Variant("without", "mnist", ("model.arguments.normalised=false",)),
            Variant("with", "mnist", ("model.arguments.normalised=true",)),
        ),
    ),
    Experiment(
        "frozen", "report 3.3", "random codebooks that never move against trained ones", UNIFORM,
        report="very similar",
        data="mnist", measures=SEEN,
        variants=(Variant("trained", "mnist"), Variant("frozen", "mnist", FROZEN)),
    ),
    Experiment(
        "mini-imagenet", "report 2.2, figures 5 and 13", "128 x 128 pictures of classes never trained on, and back",
        "PSNR of reconstructions", report="pictures, slightly blurrier",
        data="photographs", measures=("reconstruction",), models=("tokens",),
        commands=("vq train report mini-imagenet/ -o my-report", "vq eval mini-imagenet/test --model ./my-report"),
    ),
    Experiment(
        "uniform-prior", "report 2.2, figure 6", "pictures from a uniform prior against those from a PixelCNN",
        "drawn pictures that a classifier names right: uniform, PixelCNN", report="pictures: local coherence alone",
        data="animals", measures=("samples",), models=("tokens",),
        commands=(
            "vq train pixelcnn mini-imagenet/ -o my-prior --codec ./my-report",
            "vq eval samples mini-imagenet/ --model ./my-prior",
        ),
    ),
    Experiment(
        "boxing", "report 2.3, figures 7 and 8", "84 x 84 frames of Atari Boxing to 21 x 21 codes; drawn from a prior",
        "PSNR; bits a code under the prior", report="pictures, very similar; good when drawn without a condition",
        data="boxing", measures=("frames",), variants=(Variant("boxing", "boxing", prior="boxing-prior"),),
    ),
    Experiment(
        "boxing-27bit", "report 2.4, figure 9", "a second VQ-VAE over those codes, PixelCNN decoder: 27 bits",
        "bits a code of the first stage, with right and with shuffled latents", report="pictures: the boxers are lost",
        data="boxing", measures=("latents",), variants=(Variant("boxing", "boxing", prior="boxing-27bit"),),
    ),
)  # fmt: skip


def names() -> Sequence[str]:
    """In the order of the table."""
    return [experiment.name for experiment in EXPERIMENTS]


def find(name: str) -> Experiment:
    """The experiment called `name`. Raises UsageError with near matches."""
    for experiment in EXPERIMENTS:
        if experiment.name == name:
            return experiment
    raise UsageError(f"no experiment {name}", near_matches(name, names()))
