"""What every kernel reads, keeps on the chip and writes: tools.pictures draws it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Launch:
    kernel: str
    reads: str
    chip: str  # what stays in registers and shared memory
    writes: str


@dataclass(frozen=True)
class Strip:
    title: str
    total: str
    launches: tuple[Launch, ...]


MAPS = "first 4 B, second 4 B"
FLOWS = {
    "channelwise_kl": (
        "bytes for each pixel of a row of both maps: float32, one gradient, alpha = 0 (cut rows of "
        "alpha > 0 are read once more: 8 B)",
        Strip(
            "rows of up to 512 pixels", "12 B",
            (
                Launch(
                    "rows_warp", MAPS,
                    "registers: the whole row, 16 elements of both maps a thread; maxima and sums "
                    "by shuffles; exp(u) and d take the place of the logits",
                    "gradient 4 B; KL, 8 B a row",
                ),
            ),
        ),
        Strip(
            "rows of up to 16384 pixels", "12 B",
            (
                Launch(
                    "rows_block", MAPS,
                    "registers: the whole row, 64 to 1024 threads; shared: the warps' maxima and "
                    "sums, what the row shares",
                    "gradient 4 B; KL, 8 B a row",
                ),
            ),
        ),
        Strip(
            "longer rows: split", "20 B",
            (
                Launch(
                    "split_statistics", MAPS,
                    "registers: a chunk of 4096 pixels; shared: the warps' maxima and sums",
                    "20 B a chunk",
                ),
                Launch(
                    "combine", "20 B a chunk",
                    "up to 32 lanes a row; in double, in a fixed order", "KL, 8 B, and 24 B a row",
                ),
                Launch(
                    "split_gradients", f"{MAPS}; 24 B a chunk",
                    "registers: half a chunk at a time, the last chunk first", "gradient 4 B",
                ),
            ),
        ),
        Strip(
            "channels-last: columns", "20 B",
            (
                Launch(
                    "column_statistics", MAPS,
                    "registers: sums of a thread's channels under running maxima; shared: from "
                    "256 threads to the channels of the tile",
                    "20 B a chunk and channel",
                ),
                Launch(
                    "combine", "20 B a chunk and channel",
                    "shared: chunks of a channel; in double, in a fixed order",
                    "KL, 8 B, and 24 B a row",
                ),
                Launch(
                    "column_gradients", f"{MAPS}; 24 B a chunk and channel",
                    "registers: statistics of a thread's channels; the last chunk first",
                    "gradient 4 B",
                ),
            ),
        ),
        Strip(
            "after each way", "8 B a row",
            (
                Launch(
                    "losses_of_rows", "KL, 8 B a row",
                    "a block for 8192 rows; in double, in a fixed order", "loss",
                ),
            ),
        ),
        Strip(
            "backward", "8 B",
            (
                Launch(
                    "scale_rows, scale_columns", "grad_output; gradient 4 B",
                    "registers: four vectors a thread; ends at once where grad_output is 1",
                    "gradient 4 B, in place",
                ),
            ),
        ),
    ),
    "dual_mask": (
        "bytes for each pixel: two branches of float32, one bool mask that both share",
        Strip(
            "forward", "9 B",
            (
                Launch(
                    "forward_kernel", "logits 4 B + 4 B, mask 1 B",
                    "registers: five sums a branch, the product of 1 + exp(-|z|), the mask for "
                    "both; shared: the warps' sums",
                    "80 B for a piece of 4096",
                ),
                Launch(
                    "combine_kernel", "80 B for a piece",
                    "a block a sample; in double, the pieces in order",
                    "five sums a branch, BCE and Dice",
                ),
                Launch(
                    "loss_kernel", "BCE and Dice of the samples",
                    "one block; in double, in a fixed order", "loss and components",
                ),
            ),
        ),
        Strip(
            "backward", "17 B",
            (
                Launch(
                    "backward_kernel", "logits 4 B + 4 B, mask 1 B; sums, grad_output",
                    "shared: three coefficients a branch; registers: a vector of each tensor, the "
                    "mask for both branches",
                    "gradients 4 B + 4 B",
                ),
            ),
        ),
    ),
    "perturbation": (
        "bytes for each element, float32",
        Strip(
            "clamp_project, linf", "12 B",
            (
                Launch(
                    "project_kernel", "image, perturbation: 8 B",
                    "registers: a vector of 16 bytes of each tensor", "result 4 B",
                ),
            ),
        ),
        Strip(
            "its backward, linf", "20 B",
            (
                Launch(
                    "project_backward_kernel", "grad_output, image, perturbation: 12 B",
                    "registers: a vector of each tensor", "both gradients 8 B",
                ),
            ),
        ),
        Strip(
            "pgd_step_, linf", "16 B",
            (
                Launch(
                    "step_kernel", "adv, gradient, image: 12 B",
                    "registers: a vector of each tensor", "adv 4 B, in place",
                ),
            ),
        ),
        Strip(
            "momentum_step_, linf", "28 B",
            (
                Launch(
                    "field_sum_kernel", "gradient 4 B",
                    "registers: a sum, in double; shared: the warps' sums",
                    "8 B for a piece of 4096",
                ),
                Launch(
                    "combine_kernel", "8 B for a piece", "a block a sample; the pieces in order",
                    "three factors a sample",
                ),
                Launch(
                    "step_kernel", "adv, momentum, gradient, image: 16 B; factors",
                    "registers: a vector of each tensor", "momentum 4 B, adv 4 B, in place",
                ),
            ),
        ),
        Strip(
            "clamp_project, l2", "16 B",
            (
                Launch(
                    "field_sum_kernel", "perturbation 4 B",
                    "registers: a sum, in double; shared: the warps' sums",
                    "8 B for a piece of 4096",
                ),
                Launch(
                    "combine_kernel", "8 B for a piece", "a block a sample; the pieces in order",
                    "a factor a sample",
                ),
                Launch(
                    "project_kernel", "image, perturbation: 8 B; factor",
                    "registers: a vector of each tensor", "result 4 B",
                ),
            ),
        ),
        Strip(
            "pgd_step_, l2", "28 B",
            (
                Launch(
                    "step_sums_kernel", "adv, gradient, image: 12 B",
                    "registers: seven sums, in double; shared: the warps' sums",
                    "56 B for a piece of 4096",
                ),
                Launch(
                    "combine_kernel", "56 B for a piece",
                    "a block a sample; both norms from the sums", "three factors a sample",
                ),
                Launch(
                    "step_kernel", "adv, gradient, image: 12 B; factors",
                    "registers: a vector of each tensor", "adv 4 B, in place",
                ),
            ),
        ),
    ),
    "image_pack": (
        "bytes for each pixel of three channels, float32",
        Strip(
            "pack", "15 B",
            (
                Launch(
                    "pack_kernel", "interleaved bytes 3 B, 16 at once",
                    "shared: the bytes of 1024 pixels, 3 KiB; registers: a vector of one channel "
                    "after the other",
                    "three channels 12 B, 16 bytes at once",
                ),
            ),
        ),
        Strip(
            "unpack", "27 B",
            (
                Launch(
                    "unpack_kernel", "image 12 B, perturbation 12 B",
                    "registers: a vector of one channel; project, clamp, round; shared: the bytes "
                    "of 1024 pixels, 3 KiB",
                    "interleaved bytes 3 B, 16 at once",
                ),
            ),
        ),
    ),
}  # fmt: skip
