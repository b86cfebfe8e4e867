"""`python -m grafana.generator` writes grafana/dashboards/*.json."""

from grafana.generator.files import DIRECTORY, files


def main() -> None:
    DIRECTORY.mkdir(exist_ok=True)
    for name, text in files().items():
        (DIRECTORY / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
