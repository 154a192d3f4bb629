"""demo: what `make demo` runs once the environment is there."""

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo() -> None:
    """Placeholder, replaced below."""
