"""Gloo AI's endpoints, which the profile `gloo` has alone."""

from typing import Final

from tallygate.simulator import requests as read
from tallygate.simulator.answer import Wire
from tallygate.simulator.requests import Reader
from tallygate.simulator.service import Endpoint
from tallygate.simulator.wires import gloo, plain_json
from tallygate.simulator.wires.gloo import GlooChat, GlooJson, GlooResponses

_CHAT: Final = tuple(f"/ai/{version}/chat/completions" for version in ("v2", "v1", "v2/guarded", "v2/direct"))
_RESPONSES: Final = tuple(f"/ai/{version}/responses" for version in ("v1", "v2", "v2/guarded", "v2/direct", "v1/grounded"))
_INGESTION: Final = ("/ingestion/v2/files", "/ingestion/v1/real_time_upload", "/ai/ingestion/v1/real_time_upload")
_RECOMMENDATIONS: Final = tuple(
    f"/ai/{base}/{path}"
    for base in ("v1/data", "data/v1")
    for path in ("items/recommendations/base", "items/recommendations/verbose", "affiliates/referenced-items")
)


def gloo_endpoints() -> tuple[Endpoint, ...]:
    """The table. Who asks for the catalogue or for a token needs no key: docs.gloo.com, API reference, "Overview"."""
    chat, responses, recommended, ingested = GlooChat(), GlooResponses(), GlooJson(gloo.recommendations), GlooJson(gloo.ingestion)
    catalogue, searched = GlooJson(gloo.models), GlooJson(gloo.search)
    return (
        *(_metered(path, "gloo_chat", read.read_gloo_chat, chat) for path in _CHAT),
        *(
            _metered(path, "gloo_chat", read.read_gloo_chat, chat, grounded="yes")
            for path in ("/ai/v2/chat/completions/grounded", "/ai/v2/grounded/chat/completions")
        ),
        *(_metered(path, "gloo_responses", read.read_responses, responses) for path in _RESPONSES),
        _metered("/ai/v2/direct/embeddings", "gloo_embeddings", read.read_embeddings, GlooJson(plain_json.embeddings)),
        *(_plain("POST", path, "gloo_message", GlooJson(gloo.message)) for path in ("/ai/v1/message", "/ai/v1/message/kallm")),
        _plain("GET", "/ai/v1/chat", "gloo_chat_history", GlooJson(gloo.chat_history)),
        *(_plain("POST", path, "gloo_search", searched) for path in ("/ai/data/v1/search", "/ai/v1/kallm/search")),
        *(_plain("POST", path, "gloo_recommendations", recommended) for path in _RECOMMENDATIONS),
        *(_plain("POST", path, "gloo_ingestion", ingested) for path in _INGESTION),
        _plain("GET", "/engine/v2/items/{item_id}", "gloo_content", GlooJson(gloo.item)),
        *(
            _plain(method, path, "gloo_content", GlooJson(gloo.changed))
            for path in ("/engine/v2/item", "/engine/v2/items")
            for method in ("POST", "PATCH", "DELETE")
        ),
        _plain("GET", "/engine/v2/publisher/{publisher_id}/items", "gloo_content", GlooJson(gloo.listed)),
        _plain("GET", "/engine/v1/files/{file_id}/snippets", "gloo_content", GlooJson(gloo.listed)),
        _plain("GET", "/platform/v2/models", "gloo_models", catalogue, is_public=True),
        _plain("GET", "/ai/v2/models", "gloo_models", catalogue),
        _plain("POST", "/oauth2/token", "oauth2_token", GlooJson(gloo.access_token), is_public=True),
    )


def _metered(path: str, name: str, reader: Reader, wire: Wire, **parameters: str) -> Endpoint:
    return Endpoint(method="POST", path=path, name=name, read=reader, wire=wire, parameters=parameters)


def _plain(method: str, path: str, name: str, wire: Wire, *, is_public: bool = False) -> Endpoint:
    return Endpoint(method=method, path=path, name=name, read=read.read_unmetered, wire=wire, parameters={}, is_public=is_public)
