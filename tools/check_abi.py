"""Shows that the built library needs nothing of torch but its stable ABI, and loads elsewhere.

    python -m tools.check_abi [LIBRARY] [--load PYTHON]

LIBRARY is the installed one by default. With --load, another interpreter (with another torch)
loads the same file and lists the ops that it registers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from ansm_fast.ops import discovery

# C functions of torch's stable ABI; everything else of torch changes between releases.
STABLE = ("aoti_torch_", "torch_")
UNSTABLE_NAMESPACES = ("at::", "c10::", "torch::", "caffe2::")
_LOAD = """
import json, sys, torch
for name, signature in json.loads(sys.argv[2]).items():
    torch.library.define(f"ansm_fast::{name}", signature)
torch.ops.load_library(sys.argv[1])
names = torch._C._dispatch_get_registrations_for_dispatch_key("CPU")
ops = sorted(name.split("::")[1] for name in names if name.startswith("ansm_fast::"))
assert ops, "no op registered"
x = torch.randn(2, 3, 4, 5)
loss = torch.ops.ansm_fast.channelwise_kl(x, x, 1.0, 0.0, True, 4, False, False)[0]
assert float(loss) == 0.0
print(f"torch {torch.__version__}: " + ", ".join(ops))
"""


def installed_library() -> Path:
    import ansm_fast

    found = sorted(Path(ansm_fast.__file__).parent.glob("_C.*so"))
    if not found:
        sys.exit("check_abi: the installed ansm_fast has no compiled library; give its path")
    return found[0]


def undefined_symbols(library: Path) -> list[str]:
    """Demangled names that the library expects from others."""
    done = subprocess.run(
        ["nm", "-D", "--undefined-only", "-C", str(library)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return [line.split(maxsplit=1)[1] for line in done.stdout.splitlines() if line.strip()]


def unstable(symbols: list[str]) -> list[str]:
    """Symbols of torch outside its stable ABI, and of Python."""
    found = []
    for symbol in symbols:
        name = symbol.split("@")[0]
        if name.startswith(STABLE):
            continue
        if any(part in name for part in UNSTABLE_NAMESPACES) or name.startswith(
            ("Py", "_Py", "THP")
        ):
            found.append(name)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", nargs="?", type=Path)
    parser.add_argument("--load", metavar="PYTHON", help="interpreter with another torch")
    arguments = parser.parse_args()
    library = (arguments.library or installed_library()).resolve()
    symbols = undefined_symbols(library)
    bad = unstable(symbols)
    if bad:
        sys.exit(f"check_abi: {library.name} needs unstable symbols: {', '.join(bad[:10])}")
    stable = sum(symbol.startswith(STABLE) for symbol in symbols)
    print(f"{library.name}: {stable} symbols of torch's stable ABI, none besides")
    if arguments.load:
        command = [arguments.load, "-c", _LOAD, str(library), json.dumps(discovery.schemas())]
        sys.exit(subprocess.run(command).returncode)


if __name__ == "__main__":
    main()
