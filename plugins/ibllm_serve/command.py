"""``ibllm serve``: answer requests for a trained model, and show a page to play with it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from ibllm_core.errors import Notice, UserError
from ibllm_use.common import device_option, examples, run_argument, using

EXAMPLES = examples(
    "ibllm serve runs/joint",
    "ibllm serve runs/joint --port 0 --max-batch 64 --device cuda",
    "ibllm serve runs/joint --host 0.0.0.0 --token @token.txt",
)


@click.command(name="serve", epilog=EXAMPLES)
@run_argument
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at; 0.0.0.0 or :: lets other machines in.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option("--token", metavar="TOKEN|@FILE", help="What a request has to bring; in a file it is not seen in the list of processes.")
@device_option
@click.option(
    "--max-batch",
    "rows",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Pictures or texts that go through the model together.",
)
@click.option(
    "--max-wait",
    "wait",
    type=click.FloatRange(0, 1000),
    default=5.0,
    show_default=True,
    help="Milliseconds that a request waits for company while the model is idle.",
)
@click.option(
    "--queue",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    help="Requests that are under way at once; further ones are told to come again.",
)
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), default=30.0, show_default=True, help="Seconds that a request may take."
)
@click.option(
    "--max-body", type=click.FloatRange(0, min_open=True), default=4.0, show_default=True, help="Megabytes (2^20 bytes) of a request."
)
@click.option(
    "--max-pixels",
    type=click.FloatRange(0, min_open=True),
    default=16.0,
    show_default=True,
    help="Millions of pixels of an image; what has more is not decoded.",
)
def command(
    run: Path, host: str, port: int, token: str | None, device: str | None, max_body: float, max_pixels: float, wait: float, **how: Any
) -> None:
    """Serve the trained model of RUN: a page to play with and a JSON API, described at /openapi.json.

    RUN is a run directory, its model folder, or a folder in Hugging Face's layout. Ctrl-C or SIGTERM ends it when what it took is answered.
    """
    import warnings

    if missing := [name for name in ("fastapi", "prometheus_client", "uvicorn") if find_spec(name) is None]:
        raise UserError(f"serving needs {', '.join(missing)}: pip install 'ibllm[serve]'")
    from .settings import Settings

    settings = Settings(
        host=host,
        token=None if token is None else _token(token),
        wait=wait / 1000,
        body=int(max_body * 2**20),
        pixels=int(max_pixels * 1e6),
        **how,
    )
    if settings.token is None and not settings.loopback:
        text = f"{host} is open to other machines, and there is no token: whoever reaches it may ask; --token asks for one"
        warnings.warn(Notice(text), stacklevel=2)
    _serve(run, port, device, settings)


def _serve(run: Path, port: int, device: str | None, settings: Any) -> None:
    import warnings

    from PIL.Image import DecompressionBombWarning

    from .app import application
    from .engine import Engine
    from .server import listening, serve

    warnings.simplefilter("ignore", DecompressionBombWarning)  # --max-pixels decides, and says so in the answer
    door = listening(settings.host, port)
    with door, using(run, device) as model:
        engine = Engine(model)
        engine.warm()
        app = application(engine, settings, _name(run), _examples(model))
        host, taken = door.getsockname()[:2]
        click.echo(f"serving {run} at http://{f'[{host}]' if ':' in host else host}:{taken}/ (Ctrl-C ends it)", err=True)
        serve(app, door, settings.timeout)
    click.echo("all that was asked is answered; stopped", err=True)


def _name(run: Path) -> str:
    resolved = run.resolve()
    return resolved.parent.name if resolved.name == "model" else resolved.name


def _examples(model: Any) -> list[str]:
    """A few short texts of the model's data, where they are here."""
    try:
        dataset = model.dataset
        return sorted(dict.fromkeys(dataset.corpus("train", 16)), key=len)[:4]
    except (UserError, OSError):  # data that is not on this machine
        return []


def _token(given: str) -> str:
    """The token itself. Raises `UserError` for one that is easily guessed or that no header can have."""
    file = Path(given[1:]) if given.startswith("@") else None
    token = given if file is None else file.read_bytes().decode("utf-8", errors="replace").strip()
    if len(token) < 8 or not token.isascii() or not token.isprintable() or " " in token:
        makes = "python -c 'import secrets; print(secrets.token_urlsafe())' makes one"
        raise UserError(f"{file or '--token'}: expected at least 8 letters, digits or marks of ASCII, without spaces; {makes}")
    return token
