"""One bad file per mistake. Its leading comment lines are the problems it must cause, all of them and no others."""

from pathlib import Path

import pytest

from tallygate.config.load import ConfigSource

BAD = sorted((Path(__file__).parent / "bad").glob("*.yaml"))


def expected_problems(text: str) -> tuple[str, ...]:
    found = []
    for line in text.splitlines():
        if not line.startswith("# "):
            break
        found.append(line[2:])
    return tuple(found)


@pytest.mark.parametrize("bad", BAD, ids=lambda path: path.stem)
def test_a_bad_file_is_refused_with_its_line_and_the_fix(bad: Path, tmp_path: Path, source: ConfigSource) -> None:
    text = bad.read_text()
    expected = expected_problems(text)
    (tmp_path / expected[0].partition(":")[0]).write_text(text)

    assert expected == source.problems()


def test_there_is_a_bad_file_for_every_file_of_a_configuration() -> None:
    assert {"plans", "routes", "upstreams", "prices", "organizations", "authentication", "webhooks", "sign_in"} == {
        expected_problems(bad.read_text())[0].partition(".")[0] for bad in BAD
    }
