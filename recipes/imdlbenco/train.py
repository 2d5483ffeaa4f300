"""Trains PSCC-Net by the project's own loop: a config in, weights out, resumable.

python -m recipes.imdlbenco.train --config recipes/imdlbenco/1_localizer.yaml -o runs/imdlbenco
"""

from __future__ import annotations

from pathlib import Path

import click
from safetensors.torch import save_file

from ansm_fast.training.config import LocalizerRun, load_run
from ansm_fast.training.localizer import train_network
from recipes.imdlbenco.pscc_net import SmallPSCCNet


@click.command()
@click.option("--config", required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
def main(config: Path, output: Path) -> None:
    """Train; interrupted, the same command goes on from the last saved state in OUTPUT."""
    run = load_run(config)
    assert isinstance(run, LocalizerRun)
    network, loop = train_network(run, output, SmallPSCCNet)
    path = output / "pscc_net.safetensors"
    save_file(network.state_dict(), path)
    click.echo(f"{path}, after {loop.seconds:.0f} s")


if __name__ == "__main__":
    main()
