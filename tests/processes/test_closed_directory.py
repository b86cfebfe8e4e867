"""The data directory is its user's alone, whatever it was before."""

import os
import stat
from pathlib import Path

import pytest

from tallygate.processes import closed_directory
from tallygate.processes.closed_directory import TooOpenError, close_directory


def modes(root: Path) -> dict[str, int]:
    return {
        str(path.relative_to(root)): stat.S_IMODE(path.lstat().st_mode)
        for path in (root, *root.rglob("*"))
        if not path.is_symlink()
    }


def test_a_new_one_is_made_closed(tmp_path: Path) -> None:
    close_directory(tmp_path / "new" / "data")
    assert modes(tmp_path / "new" / "data") == {".": 0o700}


@pytest.mark.parametrize("mode", [0o777, 0o755, 0o750, 0o711, 0o702])
def test_one_that_is_open_is_closed_with_all_that_lies_in_it(tmp_path: Path, mode: int) -> None:
    root = tmp_path / "data"
    (root / "spool" / "0").mkdir(parents=True)
    for name in ("admin_token.sha256", "ledger.db", "spool/0/log"):
        (root / name).write_text("x")
        (root / name).chmod(0o664)
    outside = tmp_path / "outside"
    outside.write_text("x")
    outside.chmod(0o644)
    (root / "link").symlink_to(outside)
    (root / "spool").chmod(mode)
    root.chmod(mode)

    close_directory(root)

    assert modes(root) == {
        ".": 0o700,
        "spool": 0o700,
        "spool/0": 0o700,
        "admin_token.sha256": 0o600,
        "ledger.db": 0o600,
        "spool/0/log": 0o600,
    }
    assert stat.S_IMODE(outside.stat().st_mode) == 0o644


def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it belonged to somebody else, and we were not root."""

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    monkeypatch.setattr(closed_directory.os, "geteuid", lambda: os.getuid() + 1)


@pytest.mark.parametrize(("mode", "is_refused"), [(0o777, True), (0o757, True), (0o775, False), (0o750, False), (0o700, False)])
def test_one_that_cannot_be_closed_is_refused_where_others_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, *, is_refused: bool
) -> None:
    tmp_path.chmod(mode)
    refusing(monkeypatch)
    if not is_refused:
        close_directory(tmp_path)
        return
    with pytest.raises(TooOpenError, match=r"mode 07.7.*TALLYGATE_DATA_DIR"):
        close_directory(tmp_path)


def test_a_file_in_it_that_cannot_be_closed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "admin_token.sha256").write_text("x")
    (tmp_path / "admin_token.sha256").chmod(0o644)
    refusing(monkeypatch)
    with pytest.raises(TooOpenError, match=r"admin_token.sha256 .*mode 0644"):
        close_directory(tmp_path)
