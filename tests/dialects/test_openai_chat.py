import json
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_wire import DONE, chunk, compact, read, sse, usage
from splits import assert_split_invariant, metered

from tallygate.dialects.dialect import RequestFacts, units_of
from tallygate.dialects.openai_chat import OpenAiChat
from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.prompt import ImageInput, PromptShape
from tallygate.domain.unit import Unit
from tallygate.domain.usage import TOKENS_MAX, Usage, usage_of_totals

CHAT = OpenAiChat()
MESSAGES = [{"role": "user", "content": "Hi"}]
FACTS = RequestFacts(model="gpt-4o-mini", prompt=PromptShape(), stream=True)

# 2 by 3 pixels: signature, then the length and name of IHDR, then width and height
PNG_2X3 = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAIAAAADCAIAAAA2iEnWAAAAEElEQVR4nGP4z8AARAwQCgAf7gP9i18U1AAAAABJRU5ErkJggg=="
)


def request(**more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o-mini", "messages": MESSAGES} | more


def meter_stream(*events: dict[str, Any] | bytes, hide: bool = False) -> Any:
    return assert_split_invariant(CHAT, FACTS, sse(*events), hide=hide)


class TestRequest:
    def test_the_least_request(self) -> None:
        facts = read(CHAT, request())
        assert facts == RequestFacts(
            model="gpt-4o-mini",
            prompt=PromptShape(texts=("Hi",), messages=1),
            units=units_of(cache_write_5m=True),
            max_output_tokens=None,
        )

    def test_a_full_history_is_counted(self) -> None:
        facts = read(
            CHAT,
            request(
                messages=[
                    {"role": "system", "content": "Be brief", "name": "boss"},
                    {"role": "user", "content": [{"type": "text", "text": "Look"}, {"type": "refusal", "refusal": "No"}]},
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": "{}"}}],
                    },
                    {
                        "role": "assistant",
                        "function_call": {"name": "g", "arguments": "1"},
                        "reasoning_content": "Hm",
                        "refusal": "I cannot",
                    },
                    {"role": "tool", "tool_call_id": "c1", "content": "42"},
                ],
                tools=[{"type": "function", "function": {"name": "f"}}],
                functions=[{"name": "g"}],
                response_format={"type": "json_schema", "json_schema": {"name": "s"}},
            ),
        )
        assert (facts.prompt.messages, facts.prompt.names) == (5, 1)
        assert facts.prompt.texts == (
            "Be brief",
            "boss",
            "Look",
            "No",
            '{"id": "c1", "function": {"name": "f", "arguments": "{}"}}',
            "I cannot",
            "Hm",
            '{"name": "g", "arguments": "1"}',
            "42",
        )
        assert facts.prompt.schemas == ('{"type": "json_schema", "json_schema": {"name": "s"}}',)
        assert facts.prompt.tools == ('{"type": "function", "function": {"name": "f"}}', '{"name": "g"}')
        assert not facts.has_unknown_input

    def test_images_audio_and_files_are_sized_where_they_can_be(self) -> None:
        parts = [
            {"type": "image_url", "image_url": {"url": PNG_2X3, "detail": "low"}},
            {"type": "input_audio", "input_audio": {"data": "AAAA" * 100, "format": "wav"}},
            {"type": "file", "file": {"filename": "a.txt", "file_data": "data:text/plain;base64," + "AAAA" * 50}},
        ]
        facts = read(CHAT, request(messages=[{"role": "user", "content": parts}]))
        assert facts.prompt == PromptShape(
            texts=("a.txt",), messages=1, images=(ImageInput(detail="low", width=2, height=3),), opaque_bytes=450
        )
        assert facts.has_audio
        assert not facts.has_unknown_input

    @pytest.mark.parametrize(
        "part",
        [
            {"type": "image_url", "image_url": {"url": "data:application/pdf;base64,AAAA"}},
            {"type": "file", "file": {"file_id": "file-1"}},
            {"type": "file", "file": {"filename": "a", "file_data": "data:Application/PDF;base64,AAAA"}},
            {"type": "file", "file": {"filename": "A.PDF", "file_data": "AAAA"}},
            {"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}},
            {"type": ["odd"]},
            7,
        ],
    )
    def test_a_part_of_unknown_size_is_told(self, part: object) -> None:
        assert read(CHAT, request(messages=[{"role": "user", "content": [part]}])).has_unknown_input

    def test_a_part_that_is_not_known_counts_as_its_text_too(self) -> None:
        facts = read(CHAT, request(messages=[{"role": "user", "content": [{"type": "poem", "lines": ["a"]}]}]))
        assert facts.prompt.texts == ('{"type":"poem","lines":["a"]}',)

    def test_search_and_earlier_audio_are_unknown_input(self) -> None:
        assert read(CHAT, request(web_search_options={})).has_unknown_input
        assert read(CHAT, request(messages=[{"role": "assistant", "audio": {"id": "audio_1"}}])).has_unknown_input

    @pytest.mark.parametrize(
        ("more", "maximum"),
        [
            ({}, None),
            ({"max_tokens": 7}, 7),
            ({"max_completion_tokens": 9}, 9),
            ({"max_tokens": 7, "max_completion_tokens": 9}, 9),
            ({"max_tokens": 9, "max_completion_tokens": 7}, 9),
            ({"max_tokens": 7, "max_completion_tokens": 0}, 7),
            ({"max_tokens": 7, "max_completion_tokens": None}, 7),
        ],
    )
    def test_of_two_maxima_the_larger_bounds_the_output(self, more: dict[str, Any], maximum: int | None) -> None:
        assert read(CHAT, request(**more)).max_output_tokens == maximum

    def test_what_decides_rates_and_bounds(self) -> None:
        facts = read(CHAT, request(n=3, modalities=["text", "audio"], stream=True, prompt_cache_retention="24h"))
        assert (facts.choices, Unit.OUTPUT_AUDIO in facts.units, facts.stream, Unit.CACHE_WRITE_1H in facts.units) == (
            3,
            True,
            True,
            True,
        )

    @pytest.mark.parametrize(
        ("options", "asks"), [(None, False), ({}, False), ({"include_usage": False}, False), ({"include_usage": True}, True)]
    )
    def test_whether_the_client_asks_for_usage(self, options: object, asks: bool) -> None:
        assert read(CHAT, request(stream=True, stream_options=options)).client_asks_usage is asks

    @pytest.mark.parametrize(
        ("more", "param"),
        [
            ({"model": None}, "model"),
            ({"model": ""}, "model"),
            ({"model": 4}, "model"),
            ({"messages": None}, "messages"),
            ({"messages": {}}, "messages"),
            ({"messages": [{"content": 3}]}, "messages[0].content"),
            ({"messages": ["Hi"]}, "messages[0]"),
            ({"stream": "true"}, "stream"),
            ({"stream_options": "all"}, "stream_options"),
            ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
            ({"max_tokens": -1}, "max_tokens"),
            ({"max_tokens": 1.5}, "max_tokens"),
            ({"max_completion_tokens": TOKENS_MAX + 1}, "max_completion_tokens"),
            ({"n": 0}, "n"),
            ({"n": 10**6}, "n"),
            ({"tools": {}}, "tools"),
        ],
    )
    def test_a_field_that_cannot_be_priced_is_refused_by_name(self, more: dict[str, Any], param: str) -> None:
        with pytest.raises(RequestRejectedError) as caught:
            read(CHAT, request(**more))
        assert caught.value.param == param


class TestRewrite:
    def rewritten(self, body: bytes, *, ask_usage: bool = False, maximum: int | None = None) -> bytes:
        return CHAT.rewrite_request(body, read(CHAT, body), ask_usage=ask_usage, max_output_tokens=maximum)

    BODY = (
        b'{"model":"m", "temperature":1.0e-1,"messages":[{"role":"user","content":"\\u00e9"}], "stream" : true,"x":{"y":[1.50]}%s}'
    )

    def test_nothing_asked_nothing_changed(self) -> None:
        body = self.BODY % b""
        assert self.rewritten(body) is body

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (b"", b'"stream_options":{"include_usage":true},'),
            (b',"stream_options":{}', b',"stream_options":{"include_usage":true}'),
            (b',"stream_options":null', b',"stream_options":{"include_usage":true}'),
            (
                b',"stream_options":{"include_obfuscation":false}',
                b',"stream_options":{"include_usage":true,"include_obfuscation":false}',
            ),
            (b', "stream_options" : { "include_usage" : false }', b', "stream_options" : { "include_usage" : true }'),
        ],
    )
    def test_usage_is_asked_for_with_the_least_edit(self, before: bytes, after: bytes) -> None:
        expected = self.BODY % after if before else b"{" + after + (self.BODY % b"")[1:]
        assert self.rewritten(self.BODY % before, ask_usage=True) == expected

    def test_usage_is_not_asked_for_twice_nor_without_a_stream(self) -> None:
        asked = self.BODY % b',"stream_options":{"include_usage":true}'
        assert self.rewritten(asked, ask_usage=True) is asked
        plain = b'{"model":"m","messages":[],"stream_options":{"include_usage":false}}'
        assert self.rewritten(plain, ask_usage=True) is plain

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (b'"max_tokens":100', b'"max_tokens":40'),
            (b'"max_completion_tokens": 100', b'"max_completion_tokens": 40'),
            (b'"max_tokens":30,"max_completion_tokens":100', b'"max_tokens":30,"max_completion_tokens":40'),
            (b'"max_tokens":null', b'"max_completion_tokens":40,"max_tokens":null'),
        ],
    )
    def test_the_maximum_is_lowered_under_the_name_in_use_and_never_raised(self, before: bytes, after: bytes) -> None:
        rest = b',"model":"m","messages":[]}'
        assert self.rewritten(b"{" + before + rest, maximum=40) == b"{" + after + rest

    @given(
        extra=st.dictionaries(
            st.sampled_from(["x", "stream_options ", "é"]), st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
        ),
        options=st.none() | st.dictionaries(st.sampled_from(["include_usage", "include_obfuscation"]), st.booleans()),
        maximum=st.none() | st.integers(1, 99),
        indent=st.none() | st.just(1),
    )
    def test_a_rewritten_request_means_what_was_asked_and_nothing_else(
        self, extra: dict[str, Any], options: dict[str, bool] | None, maximum: int | None, indent: int | None
    ) -> None:
        sent = request(stream=True, max_completion_tokens=100, **extra)
        if options is not None:
            sent["stream_options"] = options
        expected = sent | {"stream_options": (options or {}) | {"include_usage": True}}
        if maximum is not None:
            expected["max_completion_tokens"] = maximum
        body = json.dumps(sent, indent=indent).encode()
        assert json.loads(self.rewritten(body, ask_usage=True, maximum=maximum)) == expected


class TestStream:
    HELLO = (
        chunk({"role": "assistant", "content": ""}, usage=None),
        chunk({"content": "Hel"}, usage=None),
        chunk({"content": "lo"}, usage=None),
        chunk({}, "stop", usage=None),
    )
    USAGE = chunk(choices=[], usage=usage(9, 2, prompt_tokens_details={"cached_tokens": 4}))

    def test_a_stream_with_usage(self) -> None:
        reading = meter_stream(*self.HELLO, self.USAGE, DONE)
        assert reading.usage == usage_of_totals(prompt=9, completion=2, cached=4)
        assert (reading.response_model, reading.text, reading.ended, reading.failed) == (
            "gpt-4o-mini-2024-07-18",
            "Hello",
            True,
            False,
        )
        assert reading.flags == frozenset()

    def test_a_stream_without_usage_leaves_its_text(self) -> None:
        reading = meter_stream(*self.HELLO, DONE)
        assert (reading.usage, reading.text, reading.ended) == (None, "Hello", True)

    def test_a_finish_reason_ends_a_stream_that_has_no_done(self) -> None:
        assert meter_stream(*self.HELLO).ended
        assert not meter_stream(*self.HELLO[:3]).ended
        assert not meter_stream(*self.HELLO, chunk({"content": "B"}, index=1)).ended
        assert meter_stream(*self.HELLO, chunk({"content": "B"}, "stop", index=1)).ended

    def test_the_end_is_not_seen_before_the_usage_chunk(self) -> None:
        meter = CHAT.meter(FACTS, content_type="text/event-stream", hide_usage_chunk=False)
        meter.feed(sse(*self.HELLO))
        assert not meter.reading.ended
        meter.feed(sse(self.USAGE, DONE))
        assert meter.reading.ended

    @pytest.mark.parametrize(
        ("events", "counts"),
        [
            ([chunk({"content": "x"}, "stop", usage=usage(5, 1))], usage_of_totals(prompt=5, completion=1)),
            ([chunk(usage=usage(145, 21)), chunk(usage=usage(85, 3))], usage_of_totals(prompt=85, completion=3)),
            ([chunk(usage=usage(5, 9)), chunk(choices=[], usage={})], usage_of_totals(prompt=5, completion=9)),
            ([chunk(usage=usage(5, 9)), chunk(choices=[])], usage_of_totals(prompt=5, completion=9)),
            ([chunk(x_groq={"id": "r", "usage": usage(7, 8)})], usage_of_totals(prompt=7, completion=8)),
            ([chunk(usage=None, x_groq={"usage": usage(7, 8)})], usage_of_totals(prompt=7, completion=8)),
            ([chunk(choices=[], usage=usage(0, 0))], usage_of_totals()),
            ([b": OPENROUTER PROCESSING\n\n", b"\n", chunk(usage=usage(1, 2))], usage_of_totals(prompt=1, completion=2)),
            ([b"\xef\xbb\xbfdata: " + compact(chunk(usage=usage(1, 2))) + b"\r\n\r\n"], usage_of_totals(prompt=1, completion=2)),
        ],
    )
    def test_usage_is_read_wherever_it_comes_and_the_last_object_wins(self, events: list[Any], counts: Usage) -> None:
        assert meter_stream(*events, DONE).usage == counts

    @pytest.mark.parametrize(
        ("sent", "counts", "flags"),
        [
            (
                usage(
                    100,
                    50,
                    prompt_tokens_details={"cached_tokens": 60, "cache_write_tokens": 30, "audio_tokens": 10},
                    completion_tokens_details={"reasoning_tokens": 20, "audio_tokens": 5, "rejected_prediction_tokens": 3},
                ),
                usage_of_totals(
                    prompt=100, completion=50, cached=60, cache_write_5m=30, audio_prompt=10, reasoning=20, audio_completion=5
                ),
                set(),
            ),
            (
                usage(10, 2, prompt_tokens_details={"cached_tokens": 161}),
                usage_of_totals(prompt=10, completion=2, cached=10),
                {"usage_clamped"},
            ),
            (
                {
                    "prompt_tokens": 12,
                    "completion_tokens": 2,
                    "total_tokens": 141,
                    "completion_tokens_details": {"reasoning_tokens": 127},
                },
                usage_of_totals(prompt=12, completion=129, reasoning=127),
                {"usage_inconsistent"},
            ),
            (usage(10, 2, prompt_cache_hit_tokens=7), usage_of_totals(prompt=10, completion=2, cached=7), set()),
            (
                usage(10, 2, prompt_tokens_details=None, completion_tokens_details=[]),
                usage_of_totals(prompt=10, completion=2),
                set(),
            ),
            ({"prompt_tokens": "10", "completion_tokens": 2.5}, usage_of_totals(prompt=10, completion=3), {"usage_clamped"}),
            ({"prompt_tokens": -1, "completion_tokens": True}, usage_of_totals(), {"usage_clamped"}),
            (
                {"prompt_tokens": 10**30, "completion_tokens": 1},
                usage_of_totals(prompt=TOKENS_MAX, completion=1),
                {"usage_clamped"},
            ),
        ],
    )
    def test_odd_usage_is_clamped_and_flagged(self, sent: dict[str, Any], counts: Usage, flags: set[str]) -> None:
        reading = meter_stream(chunk({}, "stop"), chunk(choices=[], usage=sent), DONE)
        assert reading.usage == counts
        assert reading.flags == flags

    def test_all_that_is_generated_is_text(self) -> None:
        call = {"index": 0, "id": "c", "function": {"name": "get", "arguments": '{"a"'}}
        reading = meter_stream(
            chunk({"reasoning_content": "1"}),
            chunk({"reasoning": "2", "content": ""}),
            chunk({"refusal": "3", "content": None}),
            chunk({"tool_calls": [call], "content": None}),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}),
            chunk({"function_call": {"name": "old"}}),
            chunk({"audio": {"id": "a", "data": "AAAA", "transcript": "heard"}}),
            chunk({"content": [{"type": "thinking"}, {"type": "text", "text": "part"}]}),
        )
        assert reading.text == '123get{"a":1}oldheardpart'

    @pytest.mark.parametrize(
        "event",
        [
            {"error": {"message": "overloaded", "type": "server_error", "code": None}},
            chunk({}, "error", error={"code": 2001}),
            chunk({}, "error"),
            b"event: error\ndata: {}\n\n",
        ],
    )
    def test_an_error_inside_the_stream_is_seen(self, event: Any) -> None:
        assert meter_stream(*self.HELLO[:2], event).failed
        assert not meter_stream(*self.HELLO, chunk(error=None)).failed

    def test_an_event_that_cannot_be_read_is_relayed_and_flagged(self) -> None:
        reading = meter_stream(self.HELLO[1], b"data: {oops\n\n", b"data: [1]\n\n", chunk(usage=usage(1, 2)), DONE)
        assert reading.flags == {"event_unreadable"}
        assert reading.usage == usage_of_totals(prompt=1, completion=2)

    def test_lone_surrogates_and_nan_do_not_hide_the_usage(self) -> None:
        choice = b'{"delta":{"content":"a\\ud800b"},"logprobs":NaN}'
        body = b'data: {"choices":[' + choice + b'],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
        reading = meter_stream(body)
        assert reading.usage == usage_of_totals(prompt=1, completion=2)
        assert reading.text.encode() == b"a?b"

    def test_the_text_nobody_takes_is_bounded(self) -> None:
        meter = CHAT.meter(FACTS, content_type="text/event-stream", hide_usage_chunk=False)
        event = sse(chunk({"content": "x" * 1_000_000}))
        for _ in range(6):
            meter.feed(event)
        assert meter.reading.text_chars == 4_000_000
        assert meter.reading.flags == {"text_dropped"}


class TestHiding:
    """Of a stream that was made to carry usage, the client sees what it would have seen without."""

    def asked_and_unasked(self, *events: dict[str, Any]) -> tuple[bytes, bytes]:
        asked = [event | {"usage": None} for event in events]
        return sse(*asked, chunk(choices=[], usage=usage(9, 2)), DONE), sse(*events, DONE)

    def test_the_client_sees_byte_for_byte_what_it_would_have_seen(self) -> None:
        text = 'she wrote ,"usage":null to me'
        events = (chunk({"content": "Hel"}), chunk({"content": text}), chunk({}, "stop", index=1), chunk(choices=[]))
        asked, unasked = self.asked_and_unasked(*events)
        reading = assert_split_invariant(CHAT, FACTS, asked, hide=True)
        assert reading.relayed == unasked
        assert reading.usage == usage_of_totals(prompt=9, completion=2)
        assert metered(CHAT, FACTS, asked).relayed == asked

    @pytest.mark.parametrize(
        ("sent", "shown"),
        [
            (b'{"choices":[{}],"usage":null,"obfuscation":"aB\\"}"}', b'{"choices":[{}],"obfuscation":"aB\\"}"}'),
            (b'{"usage":null,"choices":[{}]}', b'{"choices":[{}]}'),
            (b'{"a":1,"usage":null,"choices":[{}]}', b'{"a":1,"choices":[{}]}'),
            (
                b'{"x_groq":{"id":"r","usage":null},"choices":[{}],"usage":null}',
                b'{"x_groq":{"id":"r","usage":null},"choices":[{}]}',
            ),
            (b'{"choices":[{}],"x_groq":{"id":"r","usage":null}}', None),
            (b'{"choices":[{}],"usage": null}', None),
            (b'{"choices":[{}], "usage":null}', None),
            (b'{"usage":null}', None),
            (b'{"choices":[],"model":"m"}', None),
            (b'{"choices":[{}],"usage":{"prompt_tokens":1}}', None),
            (b'{"choices":[],"usage":{"prompt_tokens":1},"error":{"code":1}}', None),
            (b'{"usage":{"prompt_tokens":1}}', b""),
            (b'{"choices":null,"usage":{"prompt_tokens":1}}', b""),
            (b'{"id":"x","object":"chat.completion.chunk","usage":{"prompt_tokens":1},"choices":null,"citations":["a"]}', b""),
            (b'{"choices":null,"usage":null}', b'{"choices":null}'),
            (b'{"choices":[],"usage":{"prompt_tokens":1}}', b""),
            (b"not json", None),
        ],
    )
    def test_only_what_include_usage_caused_is_taken_out(self, sent: bytes, shown: bytes | None) -> None:
        framed = b"data: " + sent + b"\n\n"
        expected = framed if shown is None else b"data: " + shown + b"\n\n" if shown else b""
        assert assert_split_invariant(CHAT, FACTS, b": hi\n\n" + framed + DONE, hide=True).relayed == b": hi\n\n" + expected + DONE

    @pytest.mark.parametrize("choices", [b'"choices":[],', b'"choices":null,', b""])
    def test_the_usage_is_hidden_in_every_form_and_after_the_end(self, choices: bytes) -> None:
        hidden = b'event: usage\r\ndata: {"id":"x",' + choices + b'"usage":{"prompt_tokens":9,"completion_tokens":2}}\r\n\r\n'
        lines = b'data: {"id":"x",\ndata: ' + choices + b'"usage":{"prompt_tokens":9,"completion_tokens":2}}\n\n'
        first = sse(chunk({"content": "Hi"}, "stop"))
        for sent in (first + hidden + lines + DONE, first + DONE + hidden):
            reading = assert_split_invariant(CHAT, FACTS, sent, hide=True)
            assert reading.relayed == first + DONE
            assert reading.usage == usage_of_totals(prompt=9, completion=2)

    def test_whole_events_are_relayed_at_once_and_the_rest_is_held_back(self) -> None:
        meter = CHAT.meter(FACTS, content_type="text/event-stream", hide_usage_chunk=True)
        first, second = sse(chunk({"content": "a"})), sse(chunk({"content": "b"}))
        assert meter.feed(first + second[:20]) == first
        assert meter.feed(second[20:]) == second
        assert meter.feed(second[:20]) == b""
        assert meter.end_body() == second[:20]


class TestJson:
    ANSWER: ClassVar = {
        "id": "chatcmpl-1",
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}],
        "usage": usage(9, 2),
    }

    @pytest.mark.parametrize("lead", [b"", b"\n \n"])
    def test_a_whole_answer(self, lead: bytes) -> None:
        reading = assert_split_invariant(CHAT, FACTS, lead + compact(self.ANSWER), content_type="application/json; charset=utf-8")
        assert reading.usage == usage_of_totals(prompt=9, completion=2)
        assert (reading.response_model, reading.text, reading.ended) == ("gpt-4o-mini-2024-07-18", "Hello", True)

    def test_an_answer_that_was_cut_has_no_end(self) -> None:
        reading = metered(CHAT, FACTS, compact(self.ANSWER)[:-1], content_type="application/json")
        assert (reading.usage, reading.ended) == (usage_of_totals(prompt=9, completion=2), False)
        assert (reading.text, reading.flags) == ("Hello", {"body_unreadable"})

    def test_an_answer_that_was_cut_inside_its_usage_has_text_and_no_usage(self) -> None:
        body = compact(self.ANSWER)
        reading = metered(CHAT, FACTS, body[: body.index(b'"completion_tokens"')], content_type="application/json")
        assert (reading.usage, reading.ended, reading.text) == (None, False, "Hello")

    def test_a_byte_order_mark_before_an_answer_hides_nothing(self) -> None:
        reading = metered(CHAT, FACTS, b"\xef\xbb\xbf" + compact(self.ANSWER), content_type="application/json")
        assert (reading.usage, reading.text, reading.ended) == (usage_of_totals(prompt=9, completion=2), "Hello", True)

    def test_an_error_inside_a_200_is_seen(self) -> None:
        assert metered(CHAT, FACTS, b'{"error":{"message":"no"}}', content_type="application/json").failed

    def test_an_answer_past_the_maximum_is_read_from_its_tail(self) -> None:
        answer = {
            "choices": [{"message": {"content": "x" * (17 << 20)}}],
            "usage": usage(9, 2, prompt_tokens_details={"cached_tokens": 3}),
        }
        meter = CHAT.meter(FACTS, content_type="application/json", hide_usage_chunk=False)
        body = compact(answer)
        for at in range(0, len(body), 1 << 20):
            meter.feed(body[at : at + (1 << 20)])
        meter.end_body()
        assert meter.reading.usage == usage_of_totals(prompt=9, completion=2, cached=3)
        assert meter.reading.flags == {"body_too_large"}

    def test_another_content_type_is_relayed_unread(self) -> None:
        meter = CHAT.meter(FACTS, content_type="audio/mpeg", hide_usage_chunk=False)
        body = compact(self.ANSWER)
        assert meter.feed(body[:7]) + meter.feed(body[7:]) + meter.end_body() == body
        reading = meter.reading
        assert (reading.usage, reading.text, reading.ended, reading.unread_bytes) == (None, [], False, len(body))

    def test_without_a_content_type_the_request_decides(self) -> None:
        assert metered(CHAT, FACTS, sse(chunk(usage=usage(1, 2))), content_type="").usage is not None
        facts = RequestFacts(model="m", prompt=PromptShape())
        assert metered(CHAT, facts, compact(self.ANSWER), content_type="").usage is not None
