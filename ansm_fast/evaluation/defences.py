"""What is done to an image before the localizer sees it: nothing, five old remedies, an ANSM."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import nn

from ansm_fast.data.synthesis.traces import jpeg
from ansm_fast.errors import InputError
from ansm_fast.evaluation.differentiable import TensorFunction, gaussian_blur, straight_through
from ansm_fast.images.photograph import Image, Photograph
from ansm_fast.inference import Engine
from ansm_fast.inference.optimize import for_inference
from ansm_fast.models import BaseANSM
from ansm_fast.models.checkpoint import fingerprint

JPEG_QUALITY = 75
MEDIAN_SIZE = 3
BITS = 4
SIGMA = 1.0
TV_WEIGHT = 0.1
TITLES = {
    "none": "no defence",
    "jpeg": f"JPEG-{JPEG_QUALITY}",
    "median": f"median {MEDIAN_SIZE}×{MEDIAN_SIZE}",
    "bit-depth": f"{BITS} bits",
    "gaussian": "Gaussian blur",
    "tv": "total variation",
    "ansm": "ANSM",
}
DEFENCES = tuple(TITLES)


def is_ansm(name: str) -> bool:
    """Tell whether a column is an ANSM's: "ansm" or "ansm:NAME"."""
    return name.partition(":")[0] == "ansm"


def title(name: str) -> str:
    """Say how tables call a defence; "ansm:base" is "ANSM base"."""
    kind, _, variant = name.partition(":")
    return f"{TITLES[kind]} {variant}".strip() if kind in TITLES else name


@dataclass(frozen=True)
class Defence:
    """One column of the evaluation.

    Attributes:
        name: of the column.
        apply: 8-bit RGB image (H, W, 3) to an image of the same shape, as a platform would keep
            them in files.
        identity: tells this defence from every other one; scores are kept by it.
        through: the same on (B, 3, H, W) in [0, 1], differentiable, for adaptive attacks; by
            default ``apply`` with the gradient of ``near``.
        near: a differentiable function of (B, 3, H, W) near to the defence; by default the
            identity.
        randomized: two calls differ. Adaptive attacks then average over draws.
        detects: what ``apply`` gives, and how much the image looks attacked, in one pass; None if
            this defence cannot tell.
        attack_threshold: score from which it calls an image attacked.
    """

    name: str
    apply: Callable[[Image], Image]
    identity: str
    through: TensorFunction | None = None
    near: TensorFunction | None = None
    randomized: bool = False
    detects: Callable[[Image], tuple[Image, float]] | None = None
    attack_threshold: float = 0.5

    def __call__(self, image: Image) -> Image:
        """What ``apply`` gives, once it is known to be an 8-bit image of the same shape.

        Raises:
            InputError: it is not.
        """
        return self.defend(image)[0]

    def defend(self, image: Image) -> tuple[Image, float | None]:
        """The defended image, as of a call, and how much ``image`` looks attacked, if known."""
        attack_score: float | None = None
        if self.detects is not None:
            defended, attack_score = self.detects(image)
        else:
            defended = self.apply(image)
        if not isinstance(defended, np.ndarray) or defended.dtype != np.uint8:
            found = getattr(defended, "dtype", type(defended).__name__)
            raise InputError(
                f"the defence {self.title} must give 8-bit images (numpy uint8), got {found}; "
                "round to 0..255 in it"
            )
        if defended.shape != image.shape:
            raise InputError(
                f"the defence {self.title} must keep the shape {image.shape}, got {defended.shape}"
            )
        return defended, attack_score

    @property
    def title(self) -> str:
        return title(self.name)

    @property
    def differentiable(self) -> TensorFunction:
        return self.through or straight_through(self.apply, self.near)


def recompress(image: Image) -> Image:
    """JPEG of quality 75, decoded again."""
    return jpeg(image, JPEG_QUALITY)


def smooth(image: Image) -> Image:
    """Take the median of 3x3 pixels."""
    return cv2.medianBlur(image, MEDIAN_SIZE)


def squeeze(image: Image) -> Image:
    """4 bits a channel (Xu, Evans & Qi, "Feature squeezing", NDSS 2018), spread over 0..255."""
    top = 2**BITS - 1
    return np.rint(np.rint(np.arange(256) / 255 * top) / top * 255).astype(np.uint8)[image]


def blur(image: Image) -> Image:
    """Gaussian blur, sigma 1 pixel."""
    return cv2.GaussianBlur(image, (0, 0), SIGMA)


def total_variation(image: Image) -> Image:
    """Total-variation denoising (Chambolle 2004), weight 0.1 for an image in [0, 1]."""
    try:
        from skimage.restoration import denoise_tv_chambolle
    except ImportError as error:
        raise InputError(
            "the defence 'tv' needs scikit-image; pip install 'ansm-fast[evaluate]'"
        ) from error
    smoothed = denoise_tv_chambolle(
        image.astype(np.float32) / np.float32(255), weight=TV_WEIGHT, channel_axis=-1
    )
    return np.clip(np.rint(smoothed * 255), 0, 255).astype(np.uint8)


def ansm_identity(ansm: BaseANSM) -> str:
    """Return the fingerprint of configuration and weights, made if the ANSM never was in a file."""
    mark = ansm.fingerprint
    return mark or fingerprint("ansm", {"eps_d": ansm.eps_d}, ansm.state_dict())


def ansm_defence(ansm: BaseANSM, name: str = "ansm", device: torch.device | str = "cpu") -> Defence:
    """Make a defence of an ANSM, as ``ansm-fast defend`` runs it; attacks go through it end to
    end."""
    engine = Engine(ansm, device=device)
    network = for_inference(ansm).to(device)

    def apply(image: Image) -> Image:
        return engine.defend([Photograph(image)])[0].pixels

    def detects(image: Image) -> tuple[Image, float]:
        (found,) = engine.defend([Photograph(image)])
        assert found.attack_score is not None
        return found.pixels, found.attack_score

    return Defence(
        name,
        apply,
        f"ansm {ansm_identity(ansm)}",
        network.defend,
        detects=detects if ansm.has_attack_score else None,
        attack_threshold=ansm.attack_threshold,
    )


def _blurred(sigma: float) -> TensorFunction:
    return lambda image: gaussian_blur(image, sigma)


# Of the median and total variation: with the gradient of these blurs attacks came out stronger
# than with the identity's; one through total variation was then even weaker than no adaptation.
_PLAIN = {
    "none": Defence("none", lambda image: image, "none", lambda image: image),
    "jpeg": Defence("jpeg", recompress, f"jpeg {JPEG_QUALITY}"),
    "median": Defence("median", smooth, f"median {MEDIAN_SIZE}", near=_blurred(0.6)),
    "bit-depth": Defence("bit-depth", squeeze, f"bit-depth {BITS}"),
    "gaussian": Defence("gaussian", blur, f"gaussian {SIGMA}", _blurred(SIGMA)),
    "tv": Defence("tv", total_variation, f"tv {TV_WEIGHT}", near=_blurred(1.0)),
}


def make_defence(
    name: str, ansm: BaseANSM | None = None, device: torch.device | str = "cpu"
) -> Defence:
    """Make a defence by name; "ansm" needs one, and runs on ``device``.

    Raises:
        InputError: an unknown name, "ansm" without weights, "tv" without scikit-image.
    """
    if name == "ansm":
        if ansm is None:
            raise InputError("the defence 'ansm' needs weights; give --weights FILE")
        return ansm_defence(ansm, device=device)
    if name not in _PLAIN:
        raise InputError(f"defences must be of {', '.join(DEFENCES)}, got {name!r}")
    if name == "tv":
        total_variation(np.zeros((4, 4, 3), np.uint8))  # a missing library shows now, not amid work
    return _PLAIN[name]


def make_defences(
    names: Sequence[str],
    ansm: BaseANSM | Mapping[str, BaseANSM] | None = None,
    device: torch.device | str = "cpu",
) -> list[Defence]:
    """Make defences by name, in order; "ansm" stands for every ANSM.

    Args:
        ansm: one ANSM, whose column is called "ansm", or several by name: "ansm:NAME".
        device: where they run.
    """
    found: list[Defence] = []
    for name in dict.fromkeys(names):
        if name == "ansm" and isinstance(ansm, Mapping):
            found += [
                ansm_defence(one, f"ansm:{key}" if key else name, device)
                for key, one in ansm.items()
            ]
        else:
            found.append(make_defence(name, None if isinstance(ansm, Mapping) else ansm, device))
    return found


def weights_identity(localizer: object) -> str:
    """Kind and hash of a localizer's weights; its fingerprint where it is no module."""
    kind = type(localizer).__name__
    if isinstance(localizer, nn.Module):
        return fingerprint(kind, {}, localizer.state_dict())
    return f"{kind} {getattr(localizer, 'fingerprint', '')}"
