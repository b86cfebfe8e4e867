"""Bodies that make the provider read what everybody has stored under the operator's key, chosen by filters instead of by ids.

OpenAI's API reference, "Create eval" (`data_source_config.type`: `logs`, `stored_completions`) and "Create eval run"
(`data_source.source.type`: `responses`, `stored_completions`): a run takes what its filters leave of all stored answers.
"""

from typing import Any, Final

from tallygate.dialects.references import DATA, folded
from tallygate.domain.errors import RequestRejectedError

# By the member that an object stands in, both folded: the types of it that read in bulk. "": in any member.
_BULK: Final[dict[str, frozenset[str]]] = {
    "source": frozenset({"responses"}),
    "datasourceconfig": frozenset({"logs"}),
    "": frozenset({"storedcompletions"}),
}
_WRITTEN_OUT: Final = "filecontent"  # the type of a source whose `content` is the client's own data


def refuse_bulk_reads(body: object) -> None:
    """Raises RequestRejectedError that names the member."""
    _walk(body, path="", member="")


def _walk(value: Any, *, path: str, member: str) -> None:
    if isinstance(value, list):
        for index, each in enumerate(value):
            if isinstance(each, (dict, list)):
                _walk(each, path=f"{path}[{index}]", member=member)
    elif isinstance(value, dict):
        is_written_out = False
        for name, inner in value.items():
            if folded(name) == "type" and isinstance(inner, str):
                kind = folded(inner.strip())
                if kind in _BULK[""] or kind in _BULK.get(member, ()):
                    raise _refused(f"{path}.{name}" if path else name, inner)
                is_written_out = is_written_out or kind == _WRITTEN_OUT
        for name, inner in value.items():
            if isinstance(inner, (dict, list)) and name not in DATA and not (is_written_out and name == "content"):
                _walk(inner, path=f"{path}.{name}" if path else name, member=folded(name))


def _refused(path: str, kind: str) -> RequestRejectedError:
    return RequestRejectedError(
        f"'{path}' is '{kind[:60]}', which reads in bulk what others have stored as well: name a file, or write the content out.",
        param=path[:200],
    )
