"""`tallygate schema`: the JSON Schemas of the configuration's files, for editors."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

SCHEMAS_DIRECTORY: Final = "schemas"  # beside the files that name them


@click.command(short_help="Print the JSON Schema of a configuration file, or write all of them.")
@click.argument("file", required=False, metavar="[FILE]")
@click.option("--write", "directory", type=click.Path(path_type=Path), help="Write the schemas of all files to this directory.")
def schema(file: str | None, directory: Path | None) -> None:
    """Print the JSON Schema of a configuration file, such as plans.yaml, or write all of them.

    Editors complete and check a file whose first line names its schema, as those that `tallygate init` writes do. After an upgrade,
    `tallygate schema --write config/schemas` brings the schemas up to date.
    """
    found = schema_texts()
    if directory is not None and file is None:
        write_schemas(directory, found)
        click.echo(f"Written to {directory}: {', '.join(sorted(found))}")
        return
    name = "" if file is None else _schema_name(Path(file).name)
    if name not in found or directory is not None:
        files = ", ".join(sorted(each.replace(".schema.json", ".yaml") for each in found))
        raise click.UsageError(f"Give one of {files}, or --write DIRECTORY.")
    click.echo(found[name], nl=False)


def _schema_name(file: str) -> str:
    from tallygate.config.schemas import schema_name

    return schema_name(file if file.endswith(".yaml") else f"{file}.yaml")


def schema_texts() -> Mapping[str, str]:
    """The schemas by the names of their files."""
    from tallygate.config.routes import capabilities_of
    from tallygate.config.schemas import schema_name, schemas
    from tallygate.config.shipped import shipped_directory, shipped_tables
    from tallygate.dialects.registry import dialects

    traits = dialects().traits
    routes = shipped_tables(shipped_directory(), traits).routes or ()
    found = schemas(dialects=traits, capabilities=capabilities_of(routes))
    return {schema_name(file): _text(each) for file, each in found.items()}


def _text(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def modeline(file: str) -> str:
    """The first line of a file, which names its schema to editors. Relative to the file: no network is asked."""
    return f"# yaml-language-server: $schema={SCHEMAS_DIRECTORY}/{_schema_name(file)}\n"


def write_schemas(directory: Path, texts: Mapping[str, str]) -> None:
    """Raises click.ClickException."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (directory / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"cannot write {error.filename or directory}: {error.strerror}") from error
