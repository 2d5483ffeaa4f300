"""Loss modules to drop into any training: the ops of ``ansm_fast.ops`` with their options kept.

Formulas, dtypes, layouts and errors are those of the op that each module names.
"""

from ansm_fast.ops.channelwise_kl.module import ChannelwiseKL, FeatureAlignment
from ansm_fast.ops.dual_mask.module import BCEDice, DualMask
from ansm_fast.ops.focal.module import Focal

__all__ = ["BCEDice", "ChannelwiseKL", "DualMask", "FeatureAlignment", "Focal"]
