"""The documents say what the code does: settings, metrics, errors, commands and paths that they name."""

import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from tallygate.cli import main
from tallygate.config.settings import TOKEN_VARIABLE, URL_VARIABLE, Settings, flag_name, variable_name
from tallygate.domain.errors import ErrorCode
from tallygate.domain.usage_event import Outcome
from tallygate.telemetry.metrics import METRICS

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def page(name):
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_setting_is_documented_and_has_its_flag(field):
    assert f"`{variable_name(field)}`" in page("docs/configuration.md")
    assert flag_name(field) in CliRunner().invoke(main, ["serve", "--help"]).output


def test_no_page_names_a_setting_that_does_not_exist():
    known = {variable_name(field) for field in Settings.model_fields} | {URL_VARIABLE, TOKEN_VARIABLE}
    for path in PAGES:
        for name in re.findall(r"(?<!_)TALLYGATE_[A-Z_]*[A-Z]", path.read_text(encoding="utf-8")):
            assert name in known or name.removesuffix("_FILE") in known, f"{path.name}: {name}"


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_is_documented_as_it_is_declared(metric):
    labels = ", ".join(f"`{label}`" for label in metric.labels) or "none"

    assert f"| `{metric.name}` | {labels} | {metric.help} |" in page("docs/operate.md")


def test_no_page_names_a_metric_that_does_not_exist():
    known = {metric.name for metric in METRICS}
    for path in PAGES:
        for name in re.findall(r"`(tallygate_[a-z_]+)`", path.read_text(encoding="utf-8")):
            assert re.sub("_(bucket|sum|count)$", "", name) in known, f"{path.name}: {name}"


def test_every_error_code_is_given_by_something():
    declared = ROOT / "proxy" / "tallygate" / "domain" / "errors.py"
    code = "".join(path.read_text() for path in (ROOT / "proxy" / "tallygate").rglob("*.py") if path != declared)

    assert [code_.name for code_ in ErrorCode if not re.search(rf"ErrorCode\.{code_.name}\b", code)] == []


@pytest.mark.parametrize("code", ErrorCode)
def test_every_error_code_is_documented(code):
    assert re.search(rf"^\| `{code}` \| {code.status} \| .+\.", page("docs/errors.md"), re.MULTILINE)


def test_every_code_of_the_console_is_documented():
    places = [*(ROOT / "proxy/tallygate/console").glob("*.py"), ROOT / "proxy/tallygate/ledger/directory/errors.py"]
    given = re.compile(r"""ApiError\([^)]*?code="([a-z_]+)"|^    code = "([a-z_]+)"$""", re.MULTILINE)
    codes = {one or other for path in places for one, other in given.findall(path.read_text())}

    assert len(codes) > 20
    assert sorted(code for code in codes if f"`{code}`" not in "".join(each.read_text() for each in PAGES)) == []


def test_every_outcome_is_documented():
    assert all(f"`{outcome}`" in page("docs/operate.md") for outcome in Outcome)


def test_the_changelog_is_dated_and_its_newest_version_is_the_packages():
    headings = re.findall(r"^## (.+)$", page("CHANGELOG.md"), re.MULTILINE)
    found = [re.fullmatch(r"\[(\d+)\.(\d+)\.(\d+)\] - (\d{4}-\d\d-\d\d)", heading) for heading in headings[1:]]
    released = [(match[4], *map(int, match.groups()[:3])) for match in found]
    newest = ".".join(map(str, released[0][1:]))

    assert headings[0] == "[Unreleased]"
    assert released == sorted(released, reverse=True)
    assert tomllib.loads(page("pyproject.toml"))["project"]["version"] == newest
    assert f"image: tallygate:{newest}\n" in page("compose.yaml")
    assert f"\nversion: {newest}\nappVersion: {newest}\n" in page("deploy/helm/tallygate/Chart.yaml")


def anchors(path):
    """What links may point at: headings, as pages of a repository are shown."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_links_between_pages_lead_somewhere():
    for path in [*PAGES, ROOT / "CHANGELOG.md", ROOT / "grafana" / "README.md"]:
        for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", path.read_text(encoding="utf-8")):
            page_of_target = path.parent / target if target else path
            assert page_of_target.exists(), f"{path.name}: {target}"
            assert not anchor or anchor in anchors(page_of_target), f"{path.name}: {target}#{anchor}"


def test_files_that_the_architecture_names_exist():
    for name in re.findall(r"`([a-z0-9_/]+\.py)`", page("docs/architecture.md")):
        assert (ROOT / "proxy" / "tallygate" / name).exists() or list((ROOT / "proxy" / "tallygate").glob(f"*/{name}")), name


def test_files_that_contributors_are_sent_to_exist():
    named = re.findall(r"`([\w/.]+\.(?:py|lua|yaml))`", page("CONTRIBUTING.md"))
    for name in named:
        place = [
            ROOT / name,
            ROOT / "proxy" / "tallygate" / name,
            *(ROOT / "tests").glob(f"*/{name}"),
            *(ROOT / "proxy" / "tallygate").glob(f"*/{name}"),
        ]
        assert any(path.exists() for path in place) or list((ROOT / "proxy").rglob(name)), name


def test_the_architecture_has_every_package():
    table = page("docs/architecture.md").partition("## Packages")[2].partition("## ")[0]
    named = {name for row in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE) for name in re.findall(r"`([a-z0-9_]+)`", row)}
    packages = {path.parent.name for path in (ROOT / "proxy" / "tallygate").glob("*/__init__.py")}

    assert packages <= named


def test_commands_of_the_readme_exist():
    for command in re.findall(r"^\$ tallygate ([a-z]+)", page("README.md"), re.MULTILINE):
        assert command in main.commands
    targets = re.findall(r"^([a-z]+):", page("Makefile"), re.MULTILINE)
    for target in re.findall(r"^\$ make ([a-z]+)", page("README.md"), re.MULTILINE):
        assert target in targets


def test_the_container_listens_where_its_health_check_looks():
    dockerfile = page("Dockerfile")

    assert "TALLYGATE_CONSOLE_LISTEN=0.0.0.0:9090" in dockerfile
    assert "127.0.0.1:9090/healthz" in dockerfile
    assert re.search(r"^USER tallygate$", dockerfile, re.MULTILINE)


def test_the_page_of_clients_names_the_versions_that_are_tried():
    pins = re.findall(
        r'"(@?[\w./-]+)(?:\[[\w,-]+\])?(?:==|@)([\d.]+)"', "".join(map(Path.read_text, (ROOT / "tests/clients").glob("*.py")))
    )
    assert pins
    for package, version in pins:
        assert f"{package} {version}" in page("docs/clients.md"), f"{package} {version}"
