"""What routes have to do with stored objects: said by their paths, or by themselves; and closed where nothing says it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tallygate.config.load import load_config
from tallygate.config.model import GatewayConfig
from tallygate.config.route_objects import SHARED, route_objects
from tallygate.config.shipped import shipped_directory
from tallygate.dialects.registry import dialects
from tallygate.domain.errors import ConfigError


@pytest.mark.parametrize(
    ("method", "path", "makes", "lists", "names", "deletes"),
    [
        ("POST", "/v1/files", "file", "", {}, False),
        ("GET", "/v1/files", "", "file", {}, False),
        ("DELETE", "/v1/files/{file_id}", "", "", {"file_id": "file"}, True),
        ("GET", "/v1/files/{file_id}/content", "", "", {"file_id": "file"}, False),  # its bytes are whatever was uploaded
        ("GET", "/v1/batches/{batch_id}", "batch", "", {"batch_id": "batch"}, False),  # tells of the files that it wrote
        ("POST", "/v1/uploads/{upload_id}/complete", "upload", "", {"upload_id": "upload"}, False),
        ("DELETE", "/v1/vector_stores/{id}/files/{file_id}", "", "", {"id": "vector_store", "file_id": SHARED}, False),
        (
            "GET",
            "/v1/containers/{container_id}/files/{file_id}/content",
            "",
            "",
            {"container_id": "container", "file_id": SHARED},
            False,
        ),
        ("POST", "/v1/threads/{thread_id}/runs/{run_id}/cancel", "", "", {"thread_id": "thread", "run_id": SHARED}, False),
        ("GET", "/v1/fine_tuning/jobs/{job_id}", "fine_tuning_job", "", {"job_id": "fine_tuning_job"}, False),
        ("POST", "/v1/evals", "eval", "", {}, False),
        ("GET", "/v1/videos", "", "video", {}, False),
        ("POST", "/v1beta/models/{model}:predictLongRunning", "operation", "", {"model": SHARED}, False),
        (
            "GET",
            "/v1beta/models/{model}/operations/{operation_id}",
            "operation",
            "",
            {"model": SHARED, "operation_id": "operation"},
            False,
        ),
        ("GET", "/download/v1beta/files/{file_id}:download", "", "", {"file_id": "file"}, False),
        ("DELETE", "/v1/videos/{video_id}", "", "", {"video_id": "video"}, True),
        ("GET", "/v1/videos/characters/{character_id}", "", "", {"character_id": "character"}, False),
        ("POST", "/v1/messages/batches", "batch", "", {}, False),
        ("GET", "/v1beta/files/{name}", "", "", {"name": "file"}, False),
        ("POST", "/v1beta/models/{model}:batchGenerateContent", "batch", "", {"model": SHARED}, False),
        ("POST", "/ai/v2/guarded/responses", "response", "", {}, False),
        ("POST", "/v1/responses/input_tokens", "", "", {}, False),
        ("GET", "/v1/models/{model*}", "", "", {"model": SHARED}, False),
        ("DELETE", "/v1/models/{model*}", "", "", {"model": "model"}, True),
        ("POST", "/v1beta/tunedModels/{model}:generateContent", "", "", {"model": "tuned_model"}, False),
        ("PATCH", "/engine/v2/item", "content_item", "", {}, False),
        ("GET", "/my/own/{thing_id}", "", "", {"thing_id": "thing"}, False),
    ],
)
def test_a_path_says_what_it_makes_lists_names_and_deletes(
    method: str, path: str, makes: str, lists: str, names: dict[str, str], deletes: bool
) -> None:
    said = route_objects(method, path)

    assert (said.makes, said.lists, dict(said.names), said.deletes) == (makes, lists, names, deletes)
    assert not said.is_bulk


@pytest.mark.parametrize("path", ["/v1/files", "/engine/v2/items", "/engine/v2/publisher/{publisher_id}/items", "/v1/models/all"])
def test_to_delete_without_naming_an_own_object_is_bulk(path: str) -> None:
    assert route_objects("DELETE", path).is_bulk


def test_to_change_a_collection_is_bulk_too_and_items_of_gloo_may_be_named_in_the_body() -> None:
    assert route_objects("PATCH", "/engine/v2/publisher/{publisher_id}/items").is_bulk
    assert not route_objects("PATCH", "/engine/v2/item").is_bulk
    assert not route_objects("PATCH", "/v1/things").is_bulk
    for method in ("PATCH", "DELETE"):
        assert route_objects(method, "/engine/v2/items").by_ids == "content_item"
        assert route_objects(method, "/engine/v2/publisher/{publisher_id}/items").by_ids == ""


def loaded(tmp_path: Path, route: dict[str, Any]) -> GatewayConfig:
    (tmp_path / "routes.yaml").write_text(yaml.safe_dump({"routes": [{"method": "GET", "capability": "x"} | route]}))
    return load_config(
        tmp_path, shipped_dir=shipped_directory(), known_dialects=dialects().traits, environ={}, default_url="http://up.invalid"
    )


def test_a_route_says_it_itself(tmp_path: Path) -> None:
    (route,) = loaded(
        tmp_path,
        {"method": "DELETE", "path": "/x/{a}/{b}", "names": {"a": "shared", "b": "file"}, "deletes": True, "makes": "batch"},
    ).routes

    assert dict(route.objects.names) == {"a": SHARED, "b": "file"}
    assert (route.objects.deletes, route.objects.makes, route.objects.is_bulk) == (True, "batch", False)


@pytest.mark.parametrize(
    ("route", "problem"),
    [
        ({"path": "/x", "names": {"a": "file"}}, "which the path does not have"),
        ({"path": "/x/{a}", "names": {"a": "A File"}}, "must be one word"),
        ({"path": "/x", "lists": "1"}, "must be one word"),
        ({"path": "/x", "deletes": "maybe"}, "deletes"),
    ],
)
def test_what_a_route_says_wrongly_is_a_problem(tmp_path: Path, route: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        loaded(tmp_path, route)


def test_every_shipped_route_with_a_parameter_says_what_it_names() -> None:
    config = load_config(
        shipped_directory(),
        shipped_dir=shipped_directory(),
        known_dialects=dialects().traits,
        environ={},
        default_url="http://up.invalid",
    )
    kinds = {kind for route in config.routes for _, kind in route.objects.names}

    known = {"batch", "chat_completion", "content_item", "conversation", "file", "model", "response", "tuned_model", "upload"}
    known |= {"vector_store", "container", "fine_tuning_job", "assistant", "thread", "eval", "video", "character", "operation"}
    known |= {"checkpoint", "permission", "interaction"}  # off: these belong to nobody
    assert kinds <= known | {SHARED}
