"""PSCC-Net of the package ``imdlbenco``, small, behind ``WrappedLocalizer``.

Liu et al. 2022, as IMDL-BenCo (Ma et al. 2024) has it: HRNet's features at four scales and, from
coarse to fine, masks by attention over positions and channels. From the repository's root, in an
environment with torch and the torchvision of its version::

    pip install '.[train]' imdlbenco
    python -m recipes.imdlbenco.train --config recipes/imdlbenco/1_localizer.yaml -o runs/imdlbenco
    ansm-fast evaluate DIR --localizer recipes.imdlbenco.pscc_net:make

``make()`` reads the weights from the file that the environment variable ``PSCC_NET`` names, by
default the one that the training writes.
"""

from __future__ import annotations

import os

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from ansm_fast.localizers import WrappedLocalizer

WEIGHTS = "runs/imdlbenco/pscc_net.safetensors"
STAGE1, WIDTHS = 16, (8, 16, 32, 64)
# One map each: a whole stage of HRNet gives a list.
TAPS = (
    "features.layer1",
    "features.stage2.0.branches.0",
    "features.stage3.0.branches.1",
    "features.stage4.0.branches.2",
)


def _differences() -> Tensor:
    """The products of (1, 1, 1), (1, 0, -1) and (1, -2, 1) across and down, (27, 3, 3, 3): for each
    of the three colours, nine 3x3 filters."""
    lines = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]])
    nine = torch.einsum("iy,jx->ijyx", lines, lines).flatten(0, 1)
    return torch.einsum("cd,nyx->cndyx", torch.eye(3), nine).flatten(0, 1)


class SmallPSCCNet(nn.Module):
    """Image (B, 3, H, W), H and W multiples of 32, to the sum of PSCC-Net's four masks, as logits.

    The sum, since each mask is multiplied into the features of the next finer one, and so all of
    them have to learn; the package has a loss for each. The network has fewer channels than the
    package's, and its first two convolutions halve the size, as HRNet's do and the package's do
    not: a sixteenth of the pixels from there on. The package's own ``forward`` wants a mask, for
    its loss, and resizes features to those of images of one size.
    """

    def __init__(self) -> None:
        super().__init__()
        from IMDLBenCo.model_zoo import PSCC_Net
        from IMDLBenCo.model_zoo.pscc_net.seg_hrnet_config import HRNET

        HRNET.STAGE1.NUM_CHANNELS = [STAGE1]
        for stage in (2, 3, 4):
            HRNET[f"STAGE{stage}"].NUM_CHANNELS = list(WIDTHS[:stage])
        whole = PSCC_Net(pretrain_path="")
        self.features, self.masks = whole.FENet, whole.SegNet
        self.features.conv1.stride = self.features.conv2.stride = (2, 2)
        # The package's weights, of 0.001, are for a pretrained network: a step of Adam is larger.
        for part in self.features.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
        # Small random filters never lose the brightness, in which traces of a few grey levels
        # drown; a normalization behind them takes their size away again.
        mix = torch.cat([torch.eye(27), torch.randn(64 - 27, 27) / 27**0.5])
        with torch.no_grad():
            self.features.conv1.weight.copy_(
                16 * torch.einsum("nd,dcyx->ncyx", mix, _differences())
            )

    def forward(self, image: Tensor) -> Tensor:
        features = self.features(image * 2 - 1)
        self.masks.crop_size = list(features[0].shape[2:])
        return sum(
            F.interpolate(mask, image.shape[2:], mode="bilinear", align_corners=False)
            for mask in self.masks(features)
        )


def make() -> WrappedLocalizer:
    """Make the trained localizer."""
    weights = load_file(os.environ.get("PSCC_NET", WEIGHTS))
    network = SmallPSCCNet()
    network.load_state_dict(weights)
    return WrappedLocalizer(network, stride=32, taps=TAPS)
