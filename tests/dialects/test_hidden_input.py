"""A caller who wants a small hold: names that a server might read otherwise, text where nobody looks, input that is not there."""

import json
from typing import Any

import pytest

from tallygate.dialects.anthropic_messages import AnthropicCountTokens, AnthropicMessages
from tallygate.dialects.dialect import Dialect, RequestFacts
from tallygate.dialects.gemini_embed import GeminiEmbed
from tallygate.dialects.gemini_generate import GeminiCountTokens, GeminiGenerate
from tallygate.dialects.openai_chat import OpenAiChat
from tallygate.dialects.openai_completions import OpenAiCompletions
from tallygate.dialects.openai_embeddings import OpenAiEmbeddings
from tallygate.dialects.openai_responses import OpenAiResponses
from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.prompt import ImageInput

CHAT, RESPONSES, COMPLETIONS, EMBEDDINGS = OpenAiChat(), OpenAiResponses(), OpenAiCompletions(), OpenAiEmbeddings()
MESSAGES, COUNT, GEMINI, EMBED, GEMINI_COUNT = (
    AnthropicMessages(),
    AnthropicCountTokens(),
    GeminiGenerate(),
    GeminiEmbed(),
    GeminiCountTokens(),
)
LEAST: dict[str, dict[str, Any]] = {
    CHAT.name: {"model": "m", "messages": [{"role": "user", "content": "Hi"}]},
    RESPONSES.name: {"model": "m", "input": "Hi"},
    COMPLETIONS.name: {"model": "m", "prompt": "Hi"},
    EMBEDDINGS.name: {"model": "m", "input": "Hi"},
    MESSAGES.name: {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]},
    COUNT.name: {"model": "m", "messages": [{"role": "user", "content": "Hi"}]},
    GEMINI.name: {"contents": [{"parts": [{"text": "Hi"}]}]},
    EMBED.name: {"content": {"parts": [{"text": "Hi"}]}},
    GEMINI_COUNT.name: {"contents": [{"parts": [{"text": "Hi"}]}]},
}
LONG = "seventeen secrets " * 20


def facts(dialect: Dialect, more: dict[str, Any]) -> RequestFacts:
    return dialect.read_request(json.dumps(LEAST[dialect.name] | more).encode(), path={"model": "m"}, query={})


def said(*parts: Any, **members: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)} | members]}


@pytest.mark.parametrize(
    ("dialect", "more", "param"),
    [
        *(
            (CHAT, {name: value}, name)
            for name, value in (
                *(("Model", "gpt-5-nano"), ("MODEL", "x"), ("Max_Tokens", 9), ("max_Completion_tokens", 9), ("N", 50)),
                *(("Messages", []), ("Stream", True), ("maxTokens", 9), ("max-tokens", 9), ("me\u017fsages", []), ("Best_Of", 9)),
                ("Previous_Response_Id", "r"),
            )
        ),
        (CHAT, {"stream_options": {"Include_Usage": True}}, "stream_options.Include_Usage"),
        (CHAT, {"messages": [{"role": "user", "Content": "x"}]}, "messages[0].Content"),
        (CHAT, said({"type": "text", "Text": "x"}), "messages[0].content[0].Text"),
        (CHAT, said({"type": "text", "text": "x", "TYPE": "image_url"}), "messages[0].content[0].TYPE"),
        (CHAT, {"tools": [{"Type": "function", "function": {"name": "f"}}]}, "tools[0].Type"),
        (RESPONSES, {"Background": True}, "Background"),
        (RESPONSES, {"bac\u212aground": True}, "bac\u212aground"),
        (RESPONSES, {"Max_Output_Tokens": 9}, "Max_Output_Tokens"),
        (RESPONSES, {"input": [{"role": "user", "content": [{"type": "input_file", "File_Id": "f"}]}]},
         "input[0].content[0].File_Id"),
        (COMPLETIONS, {"Best_of": 9}, "Best_of"),
        (COMPLETIONS, {"Prompt": ["x"]}, "Prompt"),
        (EMBEDDINGS, {"Input": "x"}, "Input"),
        (MESSAGES, {"Max_Tokens": 9}, "Max_Tokens"),
        (MESSAGES, {"thinking": {"type": "enabled", "Budget_Tokens": 9}}, "thinking.Budget_Tokens"),
        (COUNT, {"Model": "x"}, "Model"),
        (GEMINI, {"GenerationConfig": {}}, "GenerationConfig"),
        (GEMINI, {"generationConfig": {"MaxOutputTokens": 9}}, "generationConfig.MaxOutputTokens"),
        (GEMINI, {"generationConfig": {"max_Output_tokens": 9}}, "generationConfig.max_Output_tokens"),
        (GEMINI, {"generationConfig": {"maxOutputTokens": 1, "max_output_tokens": 9}}, "maxOutputTokens"),
        (GEMINI, {"model": "models/other"}, "model"),
        (EMBED, {"requests": [{"model": "models/other", "content": {}}]}, "model"),
        (GEMINI_COUNT, {"generateContentRequest": {"model": "models/other"}}, "model"),
        (CHAT, {"max_output_tokens": 9}, "max_output_tokens"),
        (CHAT, {"max_new_tokens": 9}, "max_new_tokens"),
        (CHAT, {"models": ["dear"]}, "models"),
        (CHAT, {"maxOutputTokens": 9}, "maxOutputTokens"),
        (CHAT, {"Models": ["dear"]}, "Models"),
        (RESPONSES, {"max_tokens": 9}, "max_tokens"),
        (RESPONSES, {"max_tokens_to_sample": 9}, "max_tokens_to_sample"),
        (RESPONSES, {"models": ["dear"]}, "models"),
        (COMPLETIONS, {"max_completion_tokens": 9}, "max_completion_tokens"),
        (EMBEDDINGS, {"models": ["dear"]}, "models"),
        (MESSAGES, {"fallbacks": [{"max_tokens": 64000}]}, "fallbacks"),
        (MESSAGES, {"fallbacks": ["dear"]}, "fallbacks"),
        (MESSAGES, {"fallbacks": [{"model": "dear"}] * 9}, "fallbacks"),
        (MESSAGES, {"fallbacks": [{"model": "dear", "Max_Tokens": 9}]}, "fallbacks[0].Max_Tokens"),
        (MESSAGES, {"fallback_models": ["dear"]}, "fallback_models"),
        (MESSAGES, {"fallbacks": "default"}, "fallbacks"),
        (MESSAGES, {"max_output_tokens": 9}, "max_output_tokens"),
        (MESSAGES, {"tools": [{"type": "advisor_20260301", "name": "advisor"}]}, "tools"),
        (MESSAGES, {"tools": [{"type": "reviewer_20270101", "name": "reviewer", "model": "dear"}]}, "tools"),
    ],
)  # fmt: skip
def test_a_name_that_might_be_read_as_another_is_refused(dialect: Dialect, more: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestRejectedError) as caught:
        facts(dialect, more)
    assert caught.value.param == param
    assert param.rpartition(".")[2] in caught.value.message


@pytest.mark.parametrize(
    ("dialect", "more"),
    [
        (CHAT, {"metadata": {"Model": "x", "N": "1"}}),
        (CHAT, {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"Model": {}, "N": {}}}}}]}),
        (CHAT, {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"properties": {"Text": {}}}}}}),
        (
            MESSAGES,
            {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"Model": 1}}]}]},
        ),
        (RESPONSES, {"prompt": {"id": "p", "variables": {"Model": "x", "N": "2"}}}),
        (GEMINI, {"contents": [{"parts": [{"functionCall": {"name": "f", "args": {"Contents": 1}}}]}]}),
        (CHAT, {"max_tokens": 5, "temperature": 1, "top_k": 3}),
        (MESSAGES, {"tools": [{"name": "f", "input_schema": {}, "input_examples": [{"Model": "x"}]}]}),
        (RESPONSES, {"input": [{"type": "local_shell_call", "id": "l", "action": {"type": "exec", "env": {"NAME": "x"}}}]}),
        (RESPONSES, {"tools": [{"type": "mcp", "server_url": "https://x", "headers": {"Type": "x"}}]}),
        (CHAT, {"x" * 1_000_000: 1}),
    ],
)
def test_names_of_the_clients_own_data_are_nobodys_business(dialect: Dialect, more: dict[str, Any]) -> None:
    assert facts(dialect, more).model == "m"


@pytest.mark.parametrize(
    ("dialect", "more"),
    [
        (CHAT, {"documents": [{"text": LONG}]}),
        (CHAT, {"anything": LONG}),
        (CHAT, {"prediction": {"type": "content", "content": LONG}}),
        (CHAT, {"functions": [{"name": "f", "description": LONG}]}),
        (CHAT, {"web_search_options": {"user_location": LONG}}),
        (CHAT, {"response_format": {"type": "json_schema", "json_schema": {"description": LONG}}}),
        (CHAT, {"messages": [{"role": "assistant", "content": "x", "reasoning": LONG}]}),
        (CHAT, {"messages": [{"role": "assistant", "content": "x", "reasoning_details": [{"text": LONG}]}]}),
        (CHAT, {"messages": [{"role": LONG, "content": "x"}]}),
        (CHAT, {"messages": [{"role": "tool", "content": "x", "tool_call_id": LONG}]}),
        (CHAT, said({"type": "text", "text": "x", "more": LONG})),
        (CHAT, said({"type": "text", "text": "x", "image_url": {"url": LONG}})),
        (CHAT, said({"type": "image_url", "image_url": {"url": "https://x/y.png", "more": LONG}})),
        (CHAT, said({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav", "transcript": LONG}})),
        (CHAT, said({"type": "file", "file": {"filename": "a.txt", "file_data": "AAAA", "more": LONG}})),
        (MESSAGES, said({"type": "document", "source": {"type": "text", "data": "x", "more": LONG}})),
        (GEMINI, {"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": "AAAA", "displayName": LONG}}]}]}),
        (GEMINI, {"contents": [{"parts": [{"fileData": {"fileUri": "https://x/y.png", "displayName": LONG}}]}]}),
        (RESPONSES, {"documents": [{"text": LONG}]}),
        (RESPONSES, {"input": [{"role": "user", "content": "x", "more": LONG}]}),
        (RESPONSES, {"input": [{"type": "function_call_output", "call_id": "c", "output": "x", "more": LONG}]}),
        (COMPLETIONS, {"documents": [LONG]}),
        (EMBEDDINGS, {"messages": [{"content": LONG}]}),
        (MESSAGES, {"documents": [LONG]}),
        (MESSAGES, {"messages": [{"role": "user", "content": "x", "reasoning": LONG}]}),
        (MESSAGES, said({"type": "text", "text": "x", "more": LONG})),
        (GEMINI, {"documents": [LONG]}),
        (GEMINI, {"generationConfig": {"more": LONG}}),
        (GEMINI, {"contents": [{"parts": [{"text": "x"}], "more": LONG}]}),
        (GEMINI, {"contents": [{"parts": [{"text": "x", "more": LONG}]}]}),
        (EMBED, {"more": LONG}),
    ],
)
def test_text_in_members_that_are_not_read_counts(dialect: Dialect, more: dict[str, Any]) -> None:
    prompt = facts(dialect, more).prompt
    assert any("seventeen secrets" in text for text in (*prompt.texts, *prompt.tools, *prompt.schemas))


@pytest.mark.parametrize("dialect", [CHAT, RESPONSES, MESSAGES, COMPLETIONS])
def test_what_says_how_to_answer_is_no_text(dialect: Dialect) -> None:
    more = {"metadata": {"a": LONG}, "user": LONG, "stop": [LONG], "service_tier": "auto", "seed": 7, "temperature": 0.5}
    assert facts(dialect, more).prompt == facts(dialect, {}).prompt


@pytest.mark.parametrize(
    ("dialect", "more"),
    [
        (CHAT, {"max_tokens": 0}),
        (CHAT, {"max_completion_tokens": 0}),
        (CHAT, {"max_tokens": 0, "max_completion_tokens": None}),
        (RESPONSES, {"max_output_tokens": 0}),
        (COMPLETIONS, {"max_tokens": 0}),
        (MESSAGES, {"max_tokens": 0}),
        (GEMINI, {"generationConfig": {"maxOutputTokens": 0}}),
        (GEMINI, {"generationConfig": {"max_output_tokens": "0"}}),
    ],
)
def test_a_maximum_of_nothing_is_none(dialect: Dialect, more: dict[str, Any]) -> None:
    assert facts(dialect, more).max_output_tokens is None


@pytest.mark.parametrize("value", [-1, 1.5, "5", True, [], -0.5])
@pytest.mark.parametrize("name", ["max_tokens", "n"])
def test_an_odd_maximum_is_refused(name: str, value: object) -> None:
    with pytest.raises(RequestRejectedError):
        facts(CHAT, {name: value})


@pytest.mark.parametrize("kind", [[], {}, 7, None, True])
def test_a_kind_of_another_type_is_a_kind_that_is_not_known(kind: object) -> None:
    block = {"type": kind, "id": "x", "input": {"file_id": "f"}, "text": "seventeen secrets"}
    for dialect, more in ((RESPONSES, {"input": [block]}), (CHAT, said(block)), (MESSAGES, said(block))):
        found = facts(dialect, more)
        assert found.has_unknown_input
        assert any("seventeen secrets" in text for text in found.prompt.texts)


def test_no_answers_are_refused_and_best_of_counts() -> None:
    with pytest.raises(RequestRejectedError):
        facts(CHAT, {"n": 0})
    assert facts(CHAT, {"n": 2, "best_of": 5}).choices == 5


def test_a_prediction_may_be_charged_as_output() -> None:
    assert LONG in facts(CHAT, {"prediction": {"type": "content", "content": LONG}}).predicted
    assert facts(CHAT, {}).predicted == ""


def test_a_large_signature_holds_a_thought() -> None:
    block = {"type": "thinking", "thinking": "", "signature": "A" * 40_000}
    assert facts(MESSAGES, said(block)).prompt.opaque_bytes == 30_000
    assert facts(GEMINI, {"contents": [{"parts": [{"text": "x", "thoughtSignature": "A" * 40_000}]}]}).prompt.opaque_bytes == 30_000


@pytest.mark.parametrize(
    ("dialect", "more"),
    [
        (CHAT, said({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}})),
        (RESPONSES, {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://example.com/a.png"}]}]}),
        (RESPONSES, {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}]}),
        (MESSAGES, said({"type": "image", "source": {"type": "url", "url": "https://x/y.png"}})),
        (MESSAGES, said({"type": "image", "source": {"type": "file", "file_id": "file_1"}})),
        (GEMINI, {"contents": [{"parts": [{"fileData": {"fileUri": "https://x/y.png", "mimeType": "image/png"}}]}]}),
    ],
)
def test_an_image_that_is_not_there_is_one_of_unknown_size(dialect: Dialect, more: dict[str, Any]) -> None:
    found = facts(dialect, more)
    assert found.prompt.images == (ImageInput(),)
    assert not found.has_unknown_input


@pytest.mark.parametrize(
    ("dialect", "more", "is_unseen"),
    [
        (RESPONSES, {"previous_response_id": "resp_1"}, False),
        (RESPONSES, {"conversation": "conv_1"}, False),
        (RESPONSES, {"prompt": {"id": "pmpt_1"}}, True),
        (RESPONSES, {"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]}, True),
        (CHAT, said({"type": "file", "file": {"file_id": "file-1"}}), False),
        (CHAT, {"plugins": [{"id": "web"}]}, True),
        (CHAT, {"enable_search": True}, True),
        (CHAT, {"search_parameters": {"mode": "on"}}, True),
        (CHAT, {"tools": [{"type": "google_search"}]}, True),
        (CHAT, {"tools": [{"function": {"name": "f"}}]}, True),
        (CHAT, {"google": {"cached_content": "cachedContents/1"}}, False),
        (COMPLETIONS, {"previous_response_id": "resp_1"}, False),
        (MESSAGES, {"newer": {"file_id": "file_1"}}, False),
        (GEMINI, {"newer": {"cachedContent": "cachedContents/1"}}, False),
        (
            RESPONSES,
            {
                "input": [
                    {
                        "role": "user",
                        "content": [{"type": "input_image", "image_url": "data:image/png;base64,AAAA", "file_id": "file-1"}],
                    }
                ]
            },
            False,
        ),
        (MESSAGES, said({"type": "document", "source": {"type": "file", "file_id": "file_1"}}), False),
        (MESSAGES, said({"type": "document", "source": {"type": "url", "url": "https://x/y.pdf"}}), True),
        (GEMINI, {"cachedContent": "cachedContents/1"}, False),
        (GEMINI, {"contents": [{"parts": [{"fileData": {"fileUri": "https://x/y.pdf", "mimeType": "application/pdf"}}]}]}, True),
    ],
)
def test_what_is_stored_is_told_apart_from_what_nobody_has_seen(dialect: Dialect, more: dict[str, Any], is_unseen: bool) -> None:
    found = facts(dialect, more)
    assert (found.has_unknown_input, found.has_unseen_input) == (True, is_unseen)
