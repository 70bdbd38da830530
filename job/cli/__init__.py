"""The command `alexnet`: click options → calls, exceptions → messages and exit codes.  No framework is imported to start it."""

import difflib
import importlib
import os
import signal
import sys
import traceback
from contextlib import suppress
from io import StringIO
from types import FrameType
from typing import Any

import click

from job import __version__
from job.core.exits import Exit, JobError
from job.storage.files import without_credentials

COMMANDS = (
    "train",
    "runs",
    "watch",
    "compare",
    "report",
    "evaluate",
    "predict",
    "export",
    "pull",
    "sync",
    "data",
    "describe",
    "trace",
    "parity",
    "doctor",
    "bench",
    "accept",
)
"""each is the function `NAME` of the module `job.cli.NAME`, which is imported when the command is used"""


class Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"job.cli.{cmd_name}"), cmd_name)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and (near := difflib.get_close_matches(args[0], (*COMMANDS, "--help"), n=1)):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader closed the pipe; flushing the buffers must not raise again
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return Exit.DONE


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def cli() -> None:
    """Train AlexNet on CIFAR-10 in PyTorch and in TensorFlow/Keras, and store everything that a comparison needs."""


def main() -> None:
    """Run the command and end the process with one of the codes of `Exit`."""
    signal.signal(signal.SIGTERM, _terminate)  # `train` installs a handler of its own
    code = run()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # the terminal may be gone
            stream.flush()
    os._exit(code)  # sys.exit would wait for an upload that hangs, beyond the grace period, or for frameworks that take themselves apart


def _terminate(number: int, frame: FrameType | None) -> None:
    """End the process at once: an exception, raised wherever the process happens to be, could be lost."""
    os.write(2, b"alexnet: stopped by SIGTERM. The same command goes on or begins again.\n")
    os._exit(Exit.NOT_STORED)


def _with_key(error: click.NoSuchOption) -> click.UsageError:
    """Where an unknown option is a key of a recipe, or what another program calls one, say how to set it."""
    from job.core.recipe import ALSO_CALLED, KEYS

    name = error.option_name.lstrip("-").replace("-", "_").lower()
    if (key := ALSO_CALLED.get(name, name)) not in KEYS:
        return error
    return click.UsageError(f"No such option {error.option_name!r}. Did you mean '--set {key}=…'?", error.ctx)


def run() -> int:
    """The exit code, after printing the error if there is one."""
    try:
        code = cli.main(prog_name="alexnet", standalone_mode=False)
        return code if isinstance(code, int) else Exit.DONE
    except JobError as error:
        with suppress(OSError):  # after SIGHUP there is no terminal
            click.echo(without_credentials(f"alexnet: {error}"), err=True)
        return error.code
    except click.ClickException as error:
        shown = StringIO()
        (_with_key(error) if isinstance(error, click.NoSuchOption) else error).show(shown)
        click.echo(without_credentials(shown.getvalue()), err=True, nl=False)
        return Exit.USAGE
    except (KeyboardInterrupt, click.Abort):
        click.echo("alexnet: stopped by Ctrl-C.", err=True)
        return Exit.INTERRUPTED
    except Exception:
        traceback.print_exc()
        click.echo("alexnet: internal error; please report the lines above.", err=True)
        return Exit.INTERNAL
