"""What the ops' ``cases.py`` consist of: one description for all that checks or measures an op.

Each op folder's ``cases.py`` ends in ``CASES = OpCases(...)``. The proof, the checks on a GPU, the
Triton tests, the benchmarks and the tests of the ops read it; they find it by the folder.

Two kinds of calls: a ``Case`` is a call of a public function, as data; a ``Call`` is one of an
operator of ``torch.ops``, in whatever namespace, with its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ansm_fast.ops.dtypes import FLOATING

FLOAT, DOUBLE, HALF, BRAIN = torch.float32, torch.float64, torch.float16, torch.bfloat16
DTYPES = FLOATING
HALVES = (HALF, BRAIN)
LAYOUTS = ("contiguous", "channels_last", "gaps", "misaligned")
NATIVE_LAYOUTS = LAYOUTS[:2]  # which kernels read as they lie, aligned
Shape = tuple[int, ...]
Tensors = dict[str, Tensor]
# Of a call's results, relative to the largest true one. Half types are rounded to nearest, once.
BOUNDS = {DOUBLE: 1e-11, FLOAT: 2e-5, HALF: 2**-11 * 1.05, BRAIN: 2**-8 * 1.05, torch.uint8: 0.0}


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    """The same values as contiguous, channels-last, sliced (with gaps) or misaligned memory."""
    if layout == "channels_last" and tensor.dim() > 2:
        return tensor.movedim(1, -1).contiguous().movedim(-1, 1)
    if layout == "gaps" and tensor.dim() > 0:
        wider = tensor.new_zeros(*tensor.shape[:-1], tensor.shape[-1] + 3)
        wider[..., 1 : tensor.shape[-1] + 1] = tensor
        return wider[..., 1 : tensor.shape[-1] + 1]
    if layout == "misaligned":
        flat = tensor.new_zeros(tensor.numel() + 1)
        flat[1:] = tensor.reshape(-1)
        return flat[1:].view(tensor.shape)
    return tensor.contiguous()


def drawn(shape: Shape, dtype: torch.dtype, layout: str = "contiguous") -> Tensor:
    """Normally distributed."""
    return laid_out(torch.randn(shape).to(dtype), layout)


def empty(shape: Shape, dtype: torch.dtype, layout: str = "contiguous") -> Tensor:
    """Memory that nobody touches costs nothing."""
    if layout != "channels_last":
        return torch.empty(shape, dtype=dtype)
    return torch.empty((shape[0], *shape[2:], shape[1]), dtype=dtype).movedim(-1, 1)


def with_end(value: float, *shape: int, dtype: torch.dtype = BRAIN) -> Tensor:
    """Empty but for the last elements."""
    tensor = torch.empty(shape, dtype=dtype)
    tensor.view(-1)[-8:] = value
    return tensor


def size_of(*tensors: Tensor | None) -> int:
    """Bytes of all elements together."""
    return sum(t.numel() * t.element_size() for t in tensors if t is not None)


def in_double(value: Any) -> Any:
    """Floating-point tensors in float64, wherever they stand."""
    if isinstance(value, (list, tuple)):
        return type(value)(in_double(v) for v in value)
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def by_size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


@dataclass
class Call:
    """A call of an operator.

    Args:
        op: the operator's name in ``torch.ops.<namespace>``.
        truth: the results from the same arguments in float64; None where only the accesses count.
        minimum: the bytes that all launches have to read and write; None where nobody counts.
        written: the arguments that hold results, in front of those that are returned.
        exact: the results are the bits that ``truth`` gives of the arguments as they are.
        half_bound: times the usual bound in half types.
        aligned: every row begins at a multiple of 16 bytes.
        last: what the last elements of the first result, or argument, must be.
    """

    op: str
    label: str
    arguments: tuple[Any, ...]
    truth: Callable[..., list[Tensor]] | None = None
    minimum: int | None = None
    written: tuple[int, ...] = ()
    exact: bool = False
    half_bound: float = 1.0
    aligned: bool = True
    last: Callable[[], Tensor] | None = None

    def bound(self, result: Tensor) -> float:
        """The largest relative error allowed; sums in float64 are as good as what is added."""
        if self.exact:
            return 0.0
        if result.dtype in HALVES:
            return self.half_bound * BOUNDS[result.dtype]
        given = [t.dtype for t in tensors_in(self.arguments) if t.is_floating_point() and t.dim()]
        single = result.dtype == DOUBLE and DOUBLE not in given[:1]
        return BOUNDS[FLOAT if single else result.dtype]


def tensors_in(values: Any) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    return [t for v in values for t in tensors_in(v)] if isinstance(values, (list, tuple)) else []


@dataclass(frozen=True)
class Case:
    """A call of a public function.

    Args:
        op: the name among the op's ``functions``.
        values: "random", "equal" (both arguments the same), "huge" (logits of +-1e4), "zero" (the
            perturbation or gradient), or "-inf", "inf", "nan": these in some places.
        rule: which of ``tools.gpu.rules`` the results must keep.
        options: keyword arguments; a word stands for a tensor that the function's ``draw`` makes.
        backward: by which gradient, "weights" or "ones", "scaled" as by a GradScaler, or "twice" by
            weights, the graph kept.
        quick: small enough for the few hundred that a processor checks in seconds.
    """

    op: str
    shape: Shape
    dtype: torch.dtype = FLOAT
    layout: str = "contiguous"
    values: str = "random"
    rule: str = "truth"
    options: dict[str, Any] = field(default_factory=dict)
    backward: str = "weights"
    quick: bool = False

    @property
    def name(self) -> str:
        words = [self.op, by_size(self.shape), str(self.dtype).removeprefix("torch."), self.layout]
        words += [] if self.values == "random" else [self.values]
        words += [] if self.backward == "weights" else [f"backward by {self.backward}"]
        return " ".join(words + [f"{k}={v}" for k, v in self.options.items()])

    def normal(self, generator: torch.Generator, scale: float = 1.0) -> Tensor:
        values = torch.randn(self.shape, generator=generator, dtype=DOUBLE)
        return (values * scale).to(self.dtype)

    def uniform(self, generator: torch.Generator) -> Tensor:
        return torch.rand(self.shape, generator=generator, dtype=DOUBLE)


def per_sample(case: Case) -> Tensors:
    """The tensors for options that are "per sample"."""
    # Sixteenths are exact in every dtype: no rounding decides what a border lets pass.
    values = torch.arange(case.shape[0], dtype=FLOAT) / 16
    names = [name for name in ("eps", "alpha") if case.options.get(name) == "per sample"]
    return {name: values.clone() for name in names}


SPECIAL = {"-inf": -torch.inf, "inf": torch.inf, "nan": torch.nan}  # values of cases


@dataclass(frozen=True)
class Tolerance:
    """How far a result may be from the truth: ``relative`` to its size, ``absolute``, and as a
    multiple of how far PyTorch's own result in the same dtype is."""

    relative: float
    absolute: float
    of_peer: float = 0.0


def close(case: Case, tensors: Tensors) -> Tolerance:
    """For a few roundings of numbers about 1."""
    bound = 1e-12 if case.dtype == DOUBLE else 3e-6
    return Tolerance(bound, bound)


@dataclass(frozen=True)
class Function:
    """A public function, as cases call it.

    Args:
        draw: the tensors of a case, contiguous on the CPU, by argument.
        forward: calls the function with tensors, options and a backend; its results by name.
        operators: those of ``torch.ops`` that forward and backward call.
        differentiable: arguments whose gradients are checked.
        eager: plain PyTorch in the tensors' dtype, to whose errors half types are compared; None
            where PyTorch has no such function.
        tolerance: for float32 and float64, of a case and its tensors.
        exact: the results are the bits of the reference.
        loss: gives one, in float32 under autocast.
    """

    draw: Callable[[Case, torch.Generator], Tensors]
    forward: Callable[..., Tensors]
    operators: tuple[str, ...]
    differentiable: tuple[str, ...] = ()
    eager: Callable[..., Tensors] | None = None
    tolerance: Callable[[Case, Tensors], Tolerance] = close
    exact: bool = False
    loss: bool = False


@dataclass(frozen=True)
class Benchmark:
    """A function at one size, to be timed beside eager PyTorch.

    Args:
        bytes: minimum traffic, from the README of the op folder.
        inputs: makes the tensors on a device; those that require a gradient get theirs in the
            backward, which then belongs to the work.
        ours: called with the tensors and ``backend``.
        eager: plain PyTorch, called with the tensors.
        for_eager: the tensors as eager PyTorch takes them, converted before the clock starts.
        bytes_for_eager: minimum traffic of these, where it is another one.
        peers: other libraries, made where they are installed: called with the tensors.
        quick: a size for a CPU or a first look.
        cpu_targets: the longest that it may take on a CPU, as multiples of the time of ``"copy"``,
            which moves as many bytes, or of the benchmark of that name. Those in float32 that
            have any are what the CPU's benchmark times.
    """

    name: str
    shape: Shape
    dtype: torch.dtype
    bytes: int
    inputs: Callable[[torch.device], tuple[Tensor, ...]]
    ours: Callable[..., Tensor]
    eager: Callable[..., Tensor]
    for_eager: Callable[..., tuple[Tensor, ...]] = lambda *tensors: tensors
    bytes_for_eager: int | None = None
    peers: dict[str, Callable[[], Callable[..., Tensor] | None]] = field(default_factory=dict)
    quick: bool = False
    cpu_targets: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LargeCheck:
    """A check on many elements, for a GPU: says what is wrong, of (backend, device, elements).

    ``bytes`` of memory are needed for each element.
    """

    op: str
    check: Callable[[str, torch.device, int], str | None]
    bytes: int


@dataclass(frozen=True)
class OpCases:
    """An op's description.

    Args:
        functions: the public functions, by name; "NAME of ..." for another way of calling one.
        cases: the calls that are checked.
        features: calls that differ in what is launched, for CUDA graphs, streams and compilers.
        benchmarks: what is timed.
        calls: operators on even and odd shapes, of (dtype, layout); the same numbers at every call.
        traffic: calls of which the CUDA kernels' minimum is known, workspaces apart, of a dtype.
        large: calls of about so many elements, of which the first and last blocks run.
        opchecks: small calls for ``torch.library.opcheck``, of a layout; what is differentiated
            requires a gradient.
        compiled: calls that launch every Triton kernel in the shapes it is made for, never run, of
            (dtype, brief); brief leaves out all but a few aligned sizes.
        large_checks: the same on a GPU, whole.
        same_kernels: operators that launch what another one launches, in Triton.
    """

    functions: dict[str, Function]
    cases: Callable[[], Iterator[Case]]
    features: tuple[Case, ...]
    benchmarks: Callable[[], Iterator[Benchmark]]
    calls: Callable[[torch.dtype, str], Iterator[Call]]
    traffic: Callable[[torch.dtype], Iterator[Call]]
    large: Callable[[int], Iterator[Call]]
    opchecks: Callable[[str], Iterator[Call]]
    compiled: Callable[[torch.dtype, bool], Iterator[Call]]
    large_checks: tuple[LargeCheck, ...] = ()
    same_kernels: dict[str, str] = field(default_factory=dict)

    @property
    def operators(self) -> tuple[str, ...]:
        every = [name for function in self.functions.values() for name in function.operators]
        return tuple(dict.fromkeys(every))
