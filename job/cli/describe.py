"""`alexnet describe`: the network as a table."""

import json

import click

from job.cli import options
from job.cli.recipes import recipe_options, resolve


@click.command()
@recipe_options
@options.as_json
def describe(as_json: bool, **values: object) -> None:
    """Print the layers of the network: output shape, parameters and multiply-accumulate operations (MACs) for one image."""
    recipe = resolve(values)
    architecture = recipe.architecture()
    if as_json:
        layers = [
            {"name": layer.name, "kind": layer.kind, "output_shape": layer.out_shape, "parameters": layer.parameters, "macs": layer.macs}
            for layer in architecture.layers
        ]
        click.echo(json.dumps({"layers": layers, "parameters": architecture.parameters, "macs": architecture.macs}, indent=1))
        return
    click.echo(f"{'layer':<20}{'kind':<10}{'output shape':<18}{'parameters':>14}{'MACs':>16}")
    for layer in architecture.layers:
        shape = " × ".join(map(str, layer.out_shape))
        click.echo(f"{layer.name:<20}{layer.kind:<10}{shape:<18}{layer.parameters:>14,}{layer.macs:>16,}")
    click.echo(f"{'total':<48}{architecture.parameters:>14,}{architecture.macs:>16,}")
    for size, share in recipe.smaller_sizes:
        smaller = recipe.architecture(image_size=size)
        click.echo(f"{f'total at {size} pixels, {float(share):.0%} of the epochs':<48}{smaller.parameters:>14,}{smaller.macs:>16,}")
