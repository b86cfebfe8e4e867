"""What requests for images can be billed for, and what their answers say of it, whole and streamed."""

from typing import Any

import pytest
from msgspec.structs import replace
from openai_wire import compact, named_sse, read, sse
from splits import Metered, assert_split_invariant

from tallygate.dialects.dialect import OtherModel, RequestFacts
from tallygate.dialects.form import Form, FormReader
from tallygate.dialects.image_tokens import output_tokens
from tallygate.dialects.openai_image_edits import OpenAiImageEdits
from tallygate.dialects.openai_images import OpenAiImages
from tallygate.domain.errors import RequestRejectedError
from tallygate.domain.unit import Unit
from tallygate.domain.usage import Pass, Usage

IMAGES, EDITS = OpenAiImages(), OpenAiImageEdits()
FIRST, SECOND, LATER = "gpt-image-1.5", "gpt-image-2", "gpt-image-2.5-flare"
BASE64 = "iVBORw0KGgo" + "A" * 1_100
USAGE = {
    "input_tokens": 40,
    "input_tokens_details": {"image_tokens": 30, "text_tokens": 10},
    "output_tokens": 1_056,
    "total_tokens": 1_096,
}


def facts(**more: Any) -> RequestFacts:
    return read(IMAGES, {"model": FIRST, "prompt": "A cat"} | more)


def whole(asked: RequestFacts, answer: dict[str, Any]) -> Metered:
    return assert_split_invariant(IMAGES, asked, compact(answer), content_type="application/json", cuts=[9, 70, 1_000])


def streamed(asked: RequestFacts, *events: dict[str, Any]) -> Metered:
    return assert_split_invariant(IMAGES, asked, named_sse(*events), cuts=[9, 70, 1_000])


def completed(**more: Any) -> dict[str, Any]:
    return {"type": "image_generation.completed", "b64_json": BASE64, "quality": "medium", "size": "1024x1024"} | more


# The formula of the second family is that of OpenAI's calculator, with figures that were read from it.
@pytest.mark.parametrize(
    ("model", "stated", "tokens"),
    [
        (FIRST, {"quality": "low", "size": "1024x1024"}, 272),
        (FIRST, {"quality": "medium", "size": "1536x1024"}, 1_568),
        (FIRST, {"quality": "high"}, 6_240),
        (FIRST, {"size": "1024x1024"}, 4_160),
        (FIRST, {"quality": "auto", "size": "auto"}, 6_240),
        (FIRST, {"quality": "high", "size": "9x9"}, 6_240),
        ("chatgpt-image-latest", {}, 6_240),
        ("openai/gpt-image-1-mini", {"quality": "low", "size": "1024x1536"}, 408),
        (SECOND, {"quality": "high", "size": "1024x1024"}, 7_024),
        (SECOND, {"quality": "high", "size": "1536x1024"}, 5_488),
        (SECOND, {"quality": "high", "size": "1792x1024"}, 5_063),
        (SECOND, {"quality": "high", "size": "3584x2048"}, 12_329),
        (SECOND, {"quality": "low", "size": "1024x1024"}, 196),
        (SECOND, {"quality": "low", "size": "2560x1440"}, 205),
        ("gpt-image-2-2026-04-21", {"size": "auto"}, 23_719),
        (SECOND, {"size": "1024 x 1024"}, 23_719),
        (SECOND, {"size": "99999x99999"}, 23_719),
        (SECOND, {"size": 1024}, 23_719),
        (LATER, {"quality": "high", "size": "1024x1024"}, 7_024),
        (LATER, {"quality": "max", "size": "1024x1024"}, 14_048),
        (LATER, {"size": "1024x1024"}, 14_048),
        (None, {}, 47_438),
        ("our-deployment", {"quality": "low", "size": "1024x1024"}, 196),
        ("gemini-2.5-flash-image", {"size": "1024x1024"}, 1_290),
        ("google/gemini-3.1-flash-image", {"size": "2048x2048"}, 1_680),
        ("gemini-3-pro-image", {}, 2_520),
        (SECOND, {"quality": "low", "size": "1024x1024", "output_format": "GIF"}, 9 * 196),
        (SECOND, {"quality": "low", "size": "1024x1024", "output_format": "gif", "frame_count": 4}, 4 * 196),
        (SECOND, {"quality": "low", "size": "1024x1024", "output_format": "gif", "frame_count": "many"}, 16 * 196),
    ],
)
def test_images_have_tokens_by_model_quality_and_size(model: str | None, stated: dict[str, Any], tokens: int) -> None:
    assert output_tokens(model, stated) == tokens


def test_each_image_is_held_whole() -> None:
    got = facts(n=3, quality="low", size="1024x1024", stream=True, partial_images=2)
    assert (got.choices, got.prompt_reads, got.stream) == (3, 3, True)
    assert got.max_output_tokens == got.output_min_tokens == 272 + 2 * 100 + 1_000
    assert facts(partial_images=3, model=SECOND, quality="low", size="1024x1024").max_output_tokens == 196
    assert got.prompt.texts == ("A cat",)
    assert got.units == {Unit.OUTPUT_IMAGE}
    assert got.calls_instead == {"image:low:1024x1024": 3}
    assert IMAGES.rewrite_request(b"{}", got, ask_usage=True, max_output_tokens=5) == b"{}"


@pytest.mark.parametrize(
    ("members", "unit"),
    [
        ({}, "image:auto:auto"),
        ({"quality": "HD", "size": "1792x1024"}, "image:hd:1792x1024"),
        ({"size": "1024 x 1024"}, "image:auto:other"),
        ({"quality": 3, "size": {"w": 1}}, "image:other:other"),
        ({"resolution": "2k", "quality": "medium"}, "image:medium:2k"),
        ({"width": 1_344, "height": 768}, "image:auto:1344x768"),
        ({"width": 512, "height": 512, "size": "512x512"}, "image:auto:512x512"),
        ({"size": "1024x1024", "resolution": "2k"}, "image:auto:other"),
        ({"quality": "x" * 40}, "image:other:auto"),
    ],
)
def test_an_image_that_is_billed_as_one_has_its_quality_and_size(members: dict[str, Any], unit: str) -> None:
    assert facts(**members).calls_instead == {unit: 1}


@pytest.mark.parametrize(
    ("members", "images"),
    [
        ({"images": [{"image_url": "https://example.org/a.png"}, {"image_url": f"data:image/png;base64,{BASE64}"}]}, 2),
        ({"image": {"url": f"data:image/png;base64,{BASE64}", "type": "image_url"}}, 1),
        ({"images": [{"file_id": "file-1"}], "mask": {"file_id": "file-2"}}, 2),
        ({"image_url": "https://example.org/a.png"}, 1),
        ({"reference_images": ["https://example.org/a.png"] * 3}, 3),
        ({"input_references": [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]}, 1),
        ({"images": [], "mask": None}, 0),
    ],
)
def test_images_that_are_edited_are_held_each_time(members: dict[str, Any], images: int) -> None:
    got = facts(n=2, **members)
    assert got.prompt.tokens == images * 6_821
    assert got.calls_instead.get(Unit.SOURCE_IMAGE, 0) == 2 * images
    assert (Unit.INPUT_IMAGE in got.units) == (images > 0)
    assert [each.id for each in got.references] == (["file-1", "file-2"] if "file-2" in str(members) else [])
    assert not any(BASE64 in text for text in got.prompt.texts)


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"n": "2"}, "n"),
        ({"n": 0}, "n"),
        ({"n": 2.5}, "n"),
        ({"n": 10**30}, "n"),
        ({"n": True}, "n"),
        ({"batch_size": 5_000}, "batch_size"),
        ({"partial_images": 4}, "partial_images"),
        ({"stream": "yes"}, "stream"),
        ({"N": 4}, "N"),
        ({"Size": "1024x1024"}, "Size"),
        ({"max_tokens": 4}, "max_tokens"),
        ({"models": ["dall-e-3"]}, "models"),
        ({"output_format": "svg"}, "svg"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(members: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestRejectedError) as refused:
        facts(**members)
    assert refused.value.param == param


def test_a_number_that_stands_twice_is_refused() -> None:
    with pytest.raises(RequestRejectedError, match="Duplicate key 'n'"):
        IMAGES.read_request(b'{"model":"gpt-image-2","prompt":"x","n":1,"n":9}', path={}, query={})


def test_other_names_of_the_number_are_held_too() -> None:
    assert facts(batch_size=4, n=2).choices == 4
    assert facts(num_images=3).calls_instead == {"image:auto:auto": 3}


def test_a_usage_is_of_text_and_of_images() -> None:
    asked = facts(quality="low", size="1024x1024")
    stated = Usage({"input": 10, "input_image": 30, "output_image": 1_056})
    answer = {"created": 1, "data": [{"b64_json": BASE64}], "usage": USAGE, "quality": "medium", "size": "1024x1024"}
    for got in (whole(asked, answer), streamed(asked, {"type": "image_generation.partial_image"}, completed(usage=USAGE))):
        assert got.usage == stated
        assert (got.ended, got.failed, got.flags) == (True, False, frozenset())
    cached = USAGE | {"cached_tokens_details": {"cached_image_tokens": 20, "cached_text_tokens": 4}}
    split = {"input": 6, "cached_input": 4, "input_image": 10, "cached_input_image": 20, "output_image": 1_056}
    assert whole(asked, {"data": [{}], "usage": cached}).usage == Usage(split)
    planned = USAGE | {"output_tokens_details": {"image_tokens": 1_000, "text_tokens": 56}}
    assert whole(asked, {"data": [{}], "usage": planned}).usage == Usage(
        {"input": 10, "input_image": 30, "output": 56, "output_image": 1_000}
    )
    routed = {"prompt_tokens": 4, "completion_tokens": 1_290, "total_tokens": 1_294, "cost": 0.04}
    got = whole(asked, {"data": [{}], "usage": routed})
    assert got.usage == Usage({"input": 4, "output_image": 1_290})
    assert got.stated_cost_nano_usd == 40_000_000


def test_each_image_of_a_stream_has_a_usage_of_its_own() -> None:
    asked = facts(n=2)
    got = streamed(asked, completed(usage=USAGE), {"type": "image_generation.partial_image"}, completed(usage=USAGE))
    assert got.usage == Usage({"input": 20, "input_image": 60, "output_image": 2_112})


def test_an_answer_without_usage_counts_what_it_has() -> None:
    asked = facts(n=3, quality="low", size="1024x1024")
    meter = IMAGES.meter(asked, content_type="application/json", hide_usage_chunk=False)
    meter.feed(compact({"data": [{"url": "https://example.org/1"}, {"url": "https://example.org/2"}]}))
    meter.end_body()
    assert meter.reading.media_tokens == {Unit.OUTPUT_IMAGE: 2 * 272}
    assert meter.reading.usage is None
    meter = IMAGES.meter(asked, content_type="text/event-stream", hide_usage_chunk=False)
    meter.feed(named_sse({"type": "image_generation.partial_image"}, completed(quality="high")))
    meter.end_body()
    assert meter.reading.media_tokens == {Unit.OUTPUT_IMAGE: 100 + 4_160}


def by_image(**more: Any) -> RequestFacts:
    """Facts of a request whose model is billed by the image."""
    asked = facts(**more)
    return replace(asked, calls=asked.calls_instead, calls_instead={}, is_by_calls=True, has_output=False)


def test_images_that_are_billed_as_such_are_counted() -> None:
    asked = by_image(n=3, quality="low", image=["a", "b"])
    two = [{"url": "https://example.org/1"}, {"url": "https://example.org/2"}]
    assert whole(asked, {"data": two}).usage == Usage({"image:low:auto": 2, "source_image": 4})
    assert whole(asked, {"images": two, "usage": USAGE}).usage == Usage({"image:low:auto": 2, "source_image": 4})
    assert whole(asked, {"data": two, "size": "1792x1024"}).usage == Usage({"image:low:1792x1024": 2, "source_image": 4})
    assert streamed(asked, completed(), completed()).usage == Usage({"image:medium:1024x1024": 2, "source_image": 4})


def test_an_answer_that_lists_no_images_has_not_ended() -> None:
    assert not whole(facts(), {"id": "job-1", "status": "queued"}).ended
    assert whole(facts(), {"data": []}).ended


def test_ticks_are_a_stated_cost() -> None:
    got = whole(facts(model="grok-imagine-image-2.0"), {"data": [{"url": "u"}], "usage": {"cost_in_usd_ticks": 400_000_000}})
    assert (got.usage, got.stated_cost_nano_usd) == (None, 40_000_000)


def test_the_author_of_an_svg_is_a_model_of_its_own() -> None:
    asked = facts(model=LATER, output_format="svg", svg={"model": "gpt-6-sol"})
    assert asked.other_models == (OtherModel(model="gpt-6-sol", max_input_tokens=20_000),)
    written = {"input_tokens": 900, "model": "gpt-6-sol", "output_tokens": 500, "reasoning_tokens": 200, "total_tokens": 1_400}
    got = whole(asked, {"data": [{"b64_json": "x"}], "usage": USAGE, "svg_usage": written})
    assert got.passes == (Pass(model="gpt-6-sol", quantities={"input": 900, "reasoning_output": 200, "output": 300}),)


def test_base64_is_not_kept() -> None:
    asked = facts(n=4)
    head = b'{"created":1,"data":['
    image = b'{"b64_json":"' + b"A" * 60_000
    meter = IMAGES.meter(asked, content_type="application/json", hide_usage_chunk=False)
    kept = 0
    meter.feed(head)
    for index in range(4):
        meter.feed((b"," if index else b"") + image)
        for _ in range(100):  # 6 MB each
            meter.feed(b"A" * 60_000)
            whole_meter = meter.feed.__self__._meter  # type: ignore[attr-defined]
            kept = max(kept, len(whole_meter._body))
        meter.feed(b'"}')
    meter.feed(b'],"usage":' + compact(USAGE) + b"}")
    meter.end_body()
    assert kept < 2_000
    assert meter.reading.usage == Usage({"input": 10, "input_image": 30, "output_image": 1_056})
    assert meter.reading.flags == set()


def test_an_error_in_a_stream_ends_nothing() -> None:
    got = streamed(facts(), {"type": "image_generation.partial_image"}, {"type": "error", "error": {"message": "No."}})
    assert (got.ended, got.failed) == (False, True)


def test_a_host_that_does_not_stream_answers_whole() -> None:
    got = whole(facts(stream=True), {"data": [{"url": "u"}], "usage": USAGE})
    assert got.ended
    got = assert_split_invariant(IMAGES, facts(stream=True), sse({"data": [{"url": "u"}, {"url": "v"}]}))
    assert got.ended


@pytest.mark.parametrize("text", ['a "quoted" \\ one', "é" * 900, "\\" * 700, "\n\t", 'x"' * 2_000])
def test_strings_end_where_they_end(text: str) -> None:
    """Whatever strings stand before it, the usage is read; split at every byte."""
    got = whole(facts(), {"data": [{"revised_prompt": text, "url": "u"}], "usage": USAGE})
    assert got.usage is not None
    assert got.ended


def test_a_quote_in_a_comment_hides_nothing() -> None:
    body = b': it is "odd\n\n' + named_sse(completed(usage=USAGE))
    got = assert_split_invariant(IMAGES, facts(), body, cuts=[3, 50])
    assert got.usage is not None


def test_a_cut_answer_has_not_ended() -> None:
    asked = facts(n=2)
    body = compact({"created": 1, "data": [{"b64_json": BASE64}, {"b64_json": BASE64}], "usage": USAGE})
    for cut in (3, 60, 1_500, len(body) - 40, len(body) - 1):
        got = assert_split_invariant(IMAGES, asked, body[:cut], content_type="application/json", cuts=[9])
        assert not got.ended, cut


def form_of(*parts: tuple[str, str | None, bytes], rest: bool = True) -> Form:
    """A form as it was read. Each part: its name, its file name, its content. rest: it is small, so that all of it came."""
    body = b"".join(
        b'--mark\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
        % (name.encode(), b"" if file is None else b'; filename="%s"' % file.encode(), content)
        for name, file, content in parts
    )
    body += b"--mark--\r\n"
    reader = FormReader("multipart/form-data; boundary=mark", EDITS.form.rules, size=len(body) if rest else 50_000_000)
    for at in range(len(body)):
        reader.feed(body[at : at + 1])
        if reader.is_ready:
            break
    else:
        reader.end_form()
    reader.form.body = body
    return reader.form


def edited(*parts: tuple[str, str | None, bytes], rest: bool = True, **path: str) -> RequestFacts:
    return EDITS.form.read(form_of(*parts, rest=rest), path=path)


FIELDS = (("model", None, FIRST.encode()), ("prompt", None, b"A hat on it"), ("n", None, b"2"), ("quality", None, b"low"))


def test_files_that_come_before_what_decides_the_cost_are_kept() -> None:
    """As in OpenAI's example for curl, and as JavaScript's SDK sends its members in any order."""
    picture = ("image[]", "a.png", b"\x89PNG")
    got = edited(FIELDS[0], picture, *FIELDS[1:], ("size", None, b"1024x1024"), rest=False)
    assert got.calls_instead == {"image:low:1024x1024": 2, "source_image": 2}


def test_a_form_is_held_like_json() -> None:
    pictures = (("image[]", "a.png", b"\x89PNG" * 9), ("image[]", "b.png", b"\x89PNG"), ("mask", "m.png", b"\x89PNG"))
    got = edited(*FIELDS, ("size", None, b"1024x1024"), ("stream", None, b"true"), ("partial_images", None, b"1"), *pictures)
    body = {"n": 2, "quality": "low", "size": "1024x1024", "stream": True, "partial_images": 1, "images": ["a", "b"], "mask": "m"}
    assert got == facts(prompt="A hat on it", **body)
    assert got.calls_instead == {"image:low:1024x1024": 2, "source_image": 6}
    author = (("output_format", None, b"svg"), ("svg[model]", None, b"gpt-6-sol"), ("svg[reasoning][effort]", None, b"low"))
    assert edited(*FIELDS, *author).other_models == (OtherModel(model="gpt-6-sol", max_input_tokens=20_000),)
    assert edited(*FIELDS, ("style", None, b"vivid and bright")).prompt.texts == ("A hat on it", '["vivid and bright"]')


def test_files_that_are_still_to_come_are_held_at_the_most_that_can_be() -> None:
    got = edited(*FIELDS, ("image[]", "a.png", b"\x89PNG"), ("image[]", "b.png", b"\x89PNG"), rest=False)
    assert got.prompt.tokens == 18 * 6_821


@pytest.mark.parametrize(
    ("more", "param"),
    [
        (("n", None, b"2"), "n"),  # twice
        (("N", None, b"9"), "N"),
        (("n[]", None, b"9"), "n[]"),
        (("partial_images", None, b"4"), "partial_images"),
        (("partial_images", None, b"1e1"), "partial_images"),
        (("partial_images", None, b" 1"), "partial_images"),
        (("stream", None, b"maybe"), "stream"),
        (("output_format", None, b"svg"), "svg"),
        (("size", "size.txt", b"1024x1024"), "size"),
        (("mask", None, b"text"), "mask"),
        (("file_id", None, b"file-1"), "file_id"),
        (("images", None, b'[{"file_id": "file-1"}]'), "images"),  # as JSON, which some servers would read
        (("image_url[]", None, b"https://example.org/a.png"), "image_url[]"),
    ],
)
def test_a_form_that_could_be_read_in_two_ways_is_refused(more: tuple[str, str | None, bytes], param: str) -> None:
    with pytest.raises(RequestRejectedError) as refused:
        edited(*FIELDS, more)
    assert refused.value.param == param


def test_a_form_for_a_deployment_has_its_model() -> None:
    assert edited(*FIELDS[1:], model="our-images").model == "our-images"
    assert edited(*FIELDS, model=FIRST).model == FIRST
    for path, parts in (({"model": "our-images"}, FIELDS), ({}, FIELDS[1:])):
        with pytest.raises(RequestRejectedError) as refused:
            edited(*parts, **path)
        assert refused.value.param == "model"
