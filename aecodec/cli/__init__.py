"""The command line: it parses, calls and prints.

`pictures`, `inspection`, `autoencoder`, `autoencoders` and `training` hold its commands, which import what they need
when they are called.
"""

from typing import Annotated

import typer

from .autoencoders import ae_app
from .inspection import doctor, info, verify
from .latents import anomalies, denoise, features, sample
from .options import Debug
from .pictures import compress, decompress
from .process import flush, open_streams, unwinding_on_signals
from .training import curve, export, train

app = typer.Typer(
    name="aecodec",
    help="A learned image codec: pictures to .aec files and back.",
    epilog="Exit codes: 0 all well, 1 some files failed, 2 wrong usage, 3 corrupt, 4 unsupported or beyond a limit, "
    "5 a target missed; 3 to 5 when every failure is of that kind.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Debug = False,
) -> None:
    context.with_resource(open_streams())
    context.with_resource(unwinding_on_signals())
    context.call_on_close(flush)
    if version:
        import aecodec

        print(aecodec.__version__)
        raise typer.Exit


for command in (compress, decompress, info, verify, doctor, features, anomalies, sample, denoise, train, curve, export):
    app.command()(command)
app.add_typer(ae_app, name="ae")
