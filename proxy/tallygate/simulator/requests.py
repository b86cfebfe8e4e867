"""Parsers of each wire API's requests. Lenient: unknown members are ignored."""

import re
import wave
from collections.abc import Callable, Mapping
from dataclasses import replace
from email.parser import BytesParser
from io import BytesIO
from typing import Any, Final

from tallygate.simulator.answer import Ask
from tallygate.simulator.prompt_tokens import PromptTokens, text_in
from tallygate.simulator.wires.openai_images import PARTIAL_TOKENS
from tallygate.simulator.wires.sse import compact

Json = Mapping[str, Any]
# A reader gets the JSON body ({} if it is not JSON), the parameters of path and query, and the prompt counter.
Reader = Callable[[Json, Mapping[str, str], PromptTokens], Ask]

AUTO_MODEL: Final = "gloo-openai-gpt-5.2"
FAMILY_MODELS: Final = {
    "openai": "gloo-openai-gpt-5.2",
    "anthropic": "gloo-anthropic-claude-sonnet-4.5",
    "google": "gloo-google-gemini-2.5-flash",
    "open source": "gloo-deepseek-v3.2",
}

_SOURCES: Final = 3
_AUDIO_TOKENS_PER_SECOND: Final = 10
_DOCUMENTS_OF_A_SEARCH: Final = 100
_BILLED_BY_IMAGE: Final = ("dall-e", "grok-imagine")
_SOURCE_IMAGE_TOKENS: Final = 1_024  # of one that is edited
_SOURCE_TOKENS: Final = 100  # of one source that a grounded answer reads


def _last_user_text(messages: list[Json]) -> str:
    """The last text sent to the model, by a user or a tool: a tool's result ends the effect of an earlier directive."""
    users = [message for message in messages if message.get("role", "user") in {"user", "tool"}]
    return text_in(users[-1].get("content", users[-1].get("parts"))) if users else ""


def _messages(body: Json, member: str = "messages") -> list[Json]:
    given = body.get(member)
    return [message for message in given if isinstance(message, Mapping)] if isinstance(given, list) else []


def _tools(body: Json, model: str, tokens: PromptTokens) -> int:
    return tokens.of_texts((compact(tool).decode() for tool in body.get("tools") or ()), model)


def _maximum(*values: Any) -> int | None:
    return next((value for value in values if isinstance(value, int)), None)


def read_chat(body: Json, _path: Mapping[str, str], tokens: PromptTokens) -> Ask:
    messages, model = _messages(body), str(body.get("model") or "gpt-4o-mini")
    options = body.get("stream_options") or {}
    return Ask(
        model=model,
        prompt_tokens=tokens.of_chat(messages, model) + _tools(body, model, tokens),
        last_text=_last_user_text(messages),
        stream=bool(body.get("stream")),
        max_tokens=_maximum(body.get("max_completion_tokens"), body.get("max_tokens")),
        choices=body.get("n") or 1,
        include_usage=bool(options.get("include_usage")),
    )


def read_gloo_chat(body: Json, path: Mapping[str, str], tokens: PromptTokens) -> Ask:
    """Gloo's chat: exactly one of model, model_family and auto_routing selects the model."""
    family = str(body.get("model_family") or "").lower()
    routing: dict[str, Any] = {}
    if body.get("model"):
        model, mechanism = str(body["model"]), "direct_model_selection"
    elif family:
        model, mechanism = FAMILY_MODELS.get(family, AUTO_MODEL), "model_family"
    else:
        model, mechanism = AUTO_MODEL, "auto_routing"
        routing = {"routing_tier": "tier_2", "routing_confidence": 0.557}
    extra = {
        "provider": "Gloo AI",
        "auto_routing": mechanism == "auto_routing",
        "routing_mechanism": mechanism,
        **routing,
        "tradition": body.get("tradition"),
    }
    ask = replace(read_chat({**body, "model": model}, path, tokens), extra=extra)
    if not path.get("grounded"):
        return ask
    # docs.gloo.com, "Grounded Completions": sources are input; without messages there is one, "Hello world!"
    found = _SOURCE_TOKENS * int(body.get("sources_limit") or _SOURCES)
    return replace(ask, prompt_tokens=ask.prompt_tokens + found, extra={**extra, "sources_returned": True})


def read_completion(body: Json, _path: Mapping[str, str], tokens: PromptTokens) -> Ask:
    """Legacy completions: a prompt is a string, a list of strings, or token ids. The default maximum is 16."""
    model, prompt = str(body.get("model") or "davinci-002"), body.get("prompt") or ""
    prompts = prompt if isinstance(prompt, list) else [prompt]
    if prompts and isinstance(prompts[0], int):
        count, prompts = len(prompts), [""]
    else:
        count = sum(len(one) if isinstance(one, list) else tokens.of_text(str(one), model) for one in prompts)
    options = body.get("stream_options") or {}
    return Ask(
        model=model,
        prompt_tokens=count,
        last_text=text_in(prompts[-1]) if prompts else "",
        stream=bool(body.get("stream")),
        max_tokens=_maximum(body.get("max_tokens"), 16),
        choices=(body.get("n") or 1) * len(prompts),
        include_usage=bool(options.get("include_usage")),
    )


def read_responses(body: Json, _path: Mapping[str, str], tokens: PromptTokens) -> Ask:
    model, given = str(body.get("model") or "gpt-4o-mini"), body.get("input") or ""
    messages: list[Json] = _messages(body, "input") if isinstance(given, list) else [{"role": "user", "content": given}]
    instructions = body.get("instructions")
    framed = [{"role": "system", "content": instructions}, *messages] if instructions else messages
    return Ask(
        model=model,
        prompt_tokens=tokens.of_chat(framed, model) + _tools(body, model, tokens),
        last_text=_last_user_text(messages),
        stream=bool(body.get("stream")),
        max_tokens=_maximum(body.get("max_output_tokens")),
        extra={
            "compacts": bool(messages) and messages[-1].get("type") == "compaction_trigger",
            "background": body.get("background") is True,
        },
    )


def read_responses_message(body: Json, path: Mapping[str, str], tokens: PromptTokens) -> Ask:
    """A `response.create` event. One that is not to generate gets an answer of no tokens."""
    ask = read_responses(body, path, tokens)
    return replace(ask, stream=True, max_tokens=ask.max_tokens if body.get("generate", True) else 0)


def read_realtime(body: Json, path: Mapping[str, str], tokens: PromptTokens) -> Ask:
    """A response within a session (`realtime.py`): the tokens of its conversation, and what was said last."""
    model = path.get("model") or "gpt-realtime"
    texts = sum(tokens.of_text(text, model) for text in body["texts"])
    return Ask(
        model=model,
        prompt_tokens=body["tokens"] + body["audio_tokens"] + texts,
        last_text=body["texts"][-1] if body["texts"] else "",
        stream=True,
        max_tokens=_maximum(body.get("max_output_tokens")),
        extra={"audio_tokens": body["audio_tokens"], "speaks": body["speaks"]},
    )


def read_embeddings(body: Json, _path: Mapping[str, str], tokens: PromptTokens) -> Ask:
    """One text or several, or their token ids. `choices` is the number of vectors."""
    model, given = str(body.get("model") or "text-embedding-3-small"), body.get("input") or ""
    inputs = list(given) if isinstance(given, list) and not isinstance(given[0], int) else [given]
    return Ask(
        model=model,
        prompt_tokens=sum(len(one) if isinstance(one, list) else tokens.of_text(str(one), model) for one in inputs),
        last_text=inputs[-1] if inputs and isinstance(inputs[-1], str) else "",
        max_tokens=0,
        choices=len(inputs),
    )


# Tokens of an image of 1024x1024: OpenAI, "Image generation"; of the models of 2 by its calculator, by which others of their usual
# sizes have fewer.
_DRAWN: Final = {"low": 272, "medium": 1_056, "high": 4_160}
_DRAWN_BY_2: Final = {"low": 196, "medium": 1_756, "high": 7_024}
_OBLONG_BY_2: Final = {"low": 158, "medium": 1_372, "high": 5_488}
_MODELS_OF_2: Final = re.compile(r"gpt-image-2")


def read_images(body: Json, path: Mapping[str, str], tokens: PromptTokens) -> Ask:
    """A text, and the images to edit. Each of several images is billed like a request of its own."""
    model, number = str(body.get("model") or path.get("deployment") or "gpt-image-1.5"), int(body.get("n") or 1)
    stream, is_billed_by_image = body.get("stream") in (True, "true"), model.startswith(_BILLED_BY_IMAGE)
    quality, size = body.get("quality") or "auto", body.get("size") or "auto"
    quality = "medium" if quality == "auto" else quality
    size = "1024x1024" if size == "auto" else size
    given = sum([_given(body.get(name)) for name in ("image", "images", "mask")])
    partials = int(body.get("partial_images") or 0) if stream else 0
    text = text_in(body.get("prompt"))
    drawn_by = _DRAWN if not _MODELS_OF_2.search(model) else _DRAWN_BY_2 if size == "1024x1024" else _OBLONG_BY_2
    drawn = drawn_by.get(quality, drawn_by["high"]) + partials * PARTIAL_TOKENS
    read = tokens.of_text(text, model) + given * _SOURCE_IMAGE_TOKENS
    return Ask(
        model=model,
        prompt_tokens=0 if is_billed_by_image else read * number,
        last_text=text,
        stream=stream,
        choices=number,
        image_tokens=0 if is_billed_by_image else drawn,
        extra={
            "is_billed_by_image": is_billed_by_image,
            "quality": quality,
            "size": size,
            "partial_images": partials,
            "source_images": given,
            "source_tokens": given * _SOURCE_IMAGE_TOKENS,
        },
    )


def _given(value: Any) -> int:
    return len(value) if isinstance(value, list) else int(value is not None)


def read_speech(body: Json, path: Mapping[str, str], tokens: PromptTokens) -> Ask:
    """A text to speak, billed by its characters or by tokens. Every answer comes as it is generated."""
    model, text = str(body.get("model") or path.get("deployment") or "tts-1"), str(body.get("input") or "")
    is_by_characters = model.startswith("tts-")
    return Ask(
        model=model,
        prompt_tokens=0 if is_by_characters else tokens.of_text(text, model),
        last_text=text,
        stream=True,
        max_tokens=0 if is_by_characters else None,
        extra={
            "is_events": body.get("stream_format") == "sse",
            "units": {"character": len(text)} if is_by_characters else {},
        },
    )


def _seconds_of(sound: bytes) -> int:
    """The length of a WAV; of anything else as at 128 kbit/s."""
    try:
        with wave.open(BytesIO(sound)) as recording:
            frames, rate = int(recording.getnframes()), int(recording.getframerate())
            return -(-frames // rate)
    except (wave.Error, EOFError):
        return -(-len(sound) // 16_000)


def read_transcription(body: Json, path: Mapping[str, str], tokens: PromptTokens) -> Ask:
    """A recording, billed by its seconds or by tokens, ten a second."""
    model, text = str(body.get("model") or path.get("deployment") or "whisper-1"), text_in(body.get("prompt"))
    seconds = _seconds_of(body["file"])
    is_by_seconds = model.startswith(("whisper", "gpt-transcribe"))
    audio = 0 if is_by_seconds else seconds * _AUDIO_TOKENS_PER_SECOND
    is_text = body.get("response_format") in ("text", "srt", "vtt")
    return Ask(
        model=model,
        prompt_tokens=0 if is_by_seconds else audio + tokens.of_text(text, model),
        last_text=text,
        stream=is_text or (body.get("stream") == "true" and not is_by_seconds),
        max_tokens=0 if is_by_seconds else None,
        extra={
            "seconds": seconds,
            "audio_tokens": audio,
            "is_by_seconds": is_by_seconds,
            "is_text": is_text,
            "is_verbose": body.get("response_format") == "verbose_json",
            "units": {"audio_second": seconds} if is_by_seconds else {},
        },
    )


def read_moderation(body: Json, _path: Mapping[str, str], tokens: PromptTokens) -> Ask:
    """Something to judge, of which nothing is billed."""
    model = str(body.get("model") or "omni-moderation-latest")
    given = body.get("input") or ""
    inputs = given if isinstance(given, list) else [given]
    return Ask(
        model=model,
        prompt_tokens=tokens.of_texts([text_in(each) for each in inputs], model),
        last_text=text_in(inputs[-1]) if inputs else "",
        max_tokens=0,
        choices=len(inputs),
    )


def read_rerank(body: Json, _path: Mapping[str, str], tokens: PromptTokens) -> Ask:
    """Documents to order. Cohere's models are billed by searches, others by tokens: the query's with each document."""
    model, query, documents = str(body["model"]), text_in(body["query"]), [text_in(each) for each in body["documents"]]
    is_by_searches = model.startswith("rerank-v")
    read = tokens.of_text(query, model) * len(documents) + tokens.of_texts(documents, model)
    return Ask(
        model=model,
        prompt_tokens=0 if is_by_searches else read,
        last_text=query,
        max_tokens=0,
        choices=len(documents),
        extra={"units": {"search_unit": -(-len(documents) // _DOCUMENTS_OF_A_SEARCH)} if is_by_searches else {}},
    )


def read_anthropic(body: Json, _path: Mapping[str, str], tokens: PromptTokens) -> Ask:
    messages, model = _messages(body), str(body.get("model") or "claude-sonnet-4-5")
    system = text_in(body.get("system"))
    framed = [{"role": "system", "content": system}, *messages] if system else messages
    return Ask(
        model=model,
        prompt_tokens=tokens.of_chat(framed, model) + _tools(body, model, tokens),
        last_text=_last_user_text(messages),
        stream=bool(body.get("stream")),
        max_tokens=_maximum(body.get("max_tokens")),
    )


def read_anthropic_complete(body: Json, _path: Mapping[str, str], tokens: PromptTokens) -> Ask:
    """A text completion: the prompt is the whole conversation."""
    model, prompt = str(body.get("model") or "claude-2.1"), str(body.get("prompt") or "")
    return Ask(
        model=model,
        prompt_tokens=tokens.of_chat([{"role": "user", "content": prompt}], model),
        last_text=prompt,
        stream=bool(body.get("stream")),
        max_tokens=_maximum(body.get("max_tokens_to_sample")),
    )


def read_gemini(body: Json, path: Mapping[str, str], tokens: PromptTokens) -> Ask:
    """Gemini's contents; the path's `method` decides whether it streams, since the body does not."""
    model = path.get("model", "gemini-2.5-flash")
    contents = _messages(body, "contents") or ([body["content"]] if isinstance(body.get("content"), Mapping) else [])
    system = body.get("systemInstruction") or body.get("system_instruction") or {}
    config = body.get("generationConfig") or {}
    texts = [text_in(system.get("parts")), *(text_in(content.get("parts")) for content in contents)]
    hosted = {name for tool in body.get("tools") or () for name in tool if name not in {"functionDeclarations", "computerUse"}}
    return Ask(
        model=model,
        prompt_tokens=tokens.of_texts(texts, model) + _tools(body, model, tokens),
        last_text=_last_user_text(contents),
        stream=path.get("method") == "streamGenerateContent",
        alt=path.get("alt", ""),
        max_tokens=_maximum(config.get("maxOutputTokens")),
        choices=config.get("candidateCount") or 1,
        # "Gemini Developer API pricing": context retrieved by Google Search is not charged as input tokens
        has_free_results=hosted <= {"googleSearch", "google_search"},
    )


def read_veo(body: Json, path: Mapping[str, str], _tokens: PromptTokens) -> Ask:
    """Google's videos, billed by the second. path's `api`: at the Gemini API all have sound."""
    parameters, instances = body.get("parameters") or {}, body["instances"]
    seconds, resolution = int(parameters.get("durationSeconds") or 8), str(parameters.get("resolution") or "720p")
    silent = ":silent" if path["api"] == "vertex" and parameters.get("generateAudio") is False else ""
    number = int(parameters.get("sampleCount") or 1) * len(instances)
    return Ask(
        model=path["model"],
        prompt_tokens=0,
        last_text=text_in(instances[0].get("prompt")),
        max_tokens=0,
        choices=number,
        extra={"video": path["api"], "units": {f"video_second:{resolution}{silent}": seconds * number}},
    )


def read_imagine(body: Json, _path: Mapping[str, str], _tokens: PromptTokens) -> Ask:
    """XAI's videos, billed by the second, and by the image that one is made from."""
    seconds, resolution = int(body.get("duration") or 8), str(body.get("resolution") or "480p")
    units = {f"video_second:{resolution}": seconds} | ({"source_image": 1} if body.get("image") else {})
    return Ask(
        model=str(body["model"]),
        prompt_tokens=0,
        last_text=text_in(body.get("prompt")),
        max_tokens=0,
        extra={"video": "xai", "units": units, "seconds": seconds},
    )


def read_count(reader: Reader) -> Reader:
    """A request that only counts a prompt: nothing is generated and nothing is billed."""

    def read(body: Json, path: Mapping[str, str], tokens: PromptTokens) -> Ask:
        ask = reader(body, path, tokens)
        return Ask(model=ask.model, prompt_tokens=0, last_text=ask.last_text, max_tokens=0, extra={"count": ask.prompt_tokens})

    return read


def read_embed_content(body: Json, path: Mapping[str, str], tokens: PromptTokens) -> Ask:
    """Gemini's embedContent: billed for its input, generates nothing."""
    return replace(read_gemini(body, path, tokens), max_tokens=0)


def read_batch_embed_contents(body: Json, path: Mapping[str, str], tokens: PromptTokens) -> Ask:
    """Gemini's batchEmbedContents: several embedContent requests. `choices` is the number of vectors."""
    asks = [read_embed_content(request, path, tokens) for request in _messages(body, "requests")]
    if not asks:
        raise ValueError("requests is empty")
    return replace(asks[-1], prompt_tokens=sum(ask.prompt_tokens for ask in asks), choices=len(asks))


def read_named(_body: Json, path: Mapping[str, str], _tokens: PromptTokens) -> Ask:
    """A request for the object in the path, without tokens."""
    return Ask(model=path["model"], prompt_tokens=0, max_tokens=0)


def read_unmetered(body: Json, path: Mapping[str, str], _tokens: PromptTokens) -> Ask:
    """A request without tokens. Its `query` may have a directive."""
    return Ask(model="", prompt_tokens=0, last_text=text_in(body.get("query")), max_tokens=0, extra={**body, **path})


def form_members(content_type: str, body: bytes) -> dict[str, Any]:
    """The parts of a form by name: a text, or the bytes of a file. Names that end in `[]` are lists."""
    message = BytesParser().parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    found: dict[str, Any] = {}
    for part in message.get_payload() if message.is_multipart() else ():
        if isinstance(part, str):
            continue
        name = str(part.get_param("name", "", header="content-disposition"))
        content = part.get_payload(decode=True)
        value: Any = content if part.get_filename() is not None else bytes(content or b"").decode()
        if name.endswith("[]"):
            found.setdefault(name.removesuffix("[]"), []).append(value)
        else:
            found[name] = value
    return found
