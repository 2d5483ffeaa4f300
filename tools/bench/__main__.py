"""Benchmarks of whole commands.

    python -m tools.bench defend [CASE ...] -o FILE

The ops are measured by ``benchmarks.run`` on a CPU and ``tools.gpu_check`` on a GPU.
"""

from __future__ import annotations

import argparse

from tools.bench.defend import suite
from tools.commands import parser_of


def main() -> None:
    parser = parser_of(__doc__)
    commands = parser.add_subparsers(required=True)
    defend = commands.add_parser(
        "defend", description=suite.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    suite.add_arguments(defend)
    arguments = parser.parse_args()
    suite.run(arguments)


if __name__ == "__main__":
    main()
