"""A form's fields are read as any server reads them, in any pieces; its files pass unread; whatever is unclear is refused."""

import pytest

from tallygate.dialects.form import FIELDS_BYTES_MAX, KEPT_BYTES_MAX, FormReader, FormRules, _read_part_head
from tallygate.dialects.form_fields import HEAD_BYTES_MAX, PARTS_MAX
from tallygate.domain.errors import RequestRejectedError

CONTENT_TYPE = "multipart/form-data; boundary=b0"
RULES = FormRules(
    fields=frozenset({"model", "prompt", "n"}), files=frozenset({"file", "image[]"}), needed=frozenset({"model", "prompt"})
)
MODEL = 'Content-Disposition: form-data; name="model"\r\n\r\nwhisper-1'
PROMPT = 'Content-Disposition: form-data; name="prompt"\r\n\r\nWords'
FILE = 'Content-Disposition: form-data; name="file"; filename="a.mp3"\r\nContent-Type: audio/mpeg\r\n\r\n'
SOUND = "\x00\r\n\r\n--b\r\n--b-- name=model\r"  # what looks like the end of a part, and is none


def form(*parts: str) -> bytes:
    return "".join(f"--b0\r\n{part}\r\n" for part in parts).encode() + b"--b0--\r\n"


def read(body: bytes, *, pieces: int = 1 << 20, size: int | None = None, rules: FormRules = RULES) -> FormReader:
    reader = FormReader(CONTENT_TYPE, rules, size=size)
    for start in range(0, len(body), pieces):
        reader.feed(body[start : start + pieces])
    reader.end_form()
    reader.form.body = body
    return reader


def refusal(body: bytes, *, pieces: int = 1 << 20, size: int | None = None) -> RequestRejectedError:
    with pytest.raises(RequestRejectedError) as refused:
        read(body, pieces=pieces, size=size)
    return refused.value


@pytest.mark.parametrize("pieces", [*range(1, 12), 1 << 20])
def test_fields_and_files_are_found_in_any_pieces(pieces: int) -> None:
    other = "content-disposition:form-data;name=language\r\nContent-Length: 2\r\n\r\nen"
    body = form(MODEL, FILE + SOUND, other, PROMPT.replace("Words", ""))
    found = read(body, pieces=pieces, size=len(body)).form
    assert found.fields == {"model": "whisper-1", "prompt": ""}
    assert found.others == [("language", "en")]
    (file,) = found.files
    assert (file.name, file.content_type) == ("file", "audio/mpeg")
    assert found.content(file) == SOUND.encode()
    assert found.text_chars() == len("whisper-1en")


@pytest.mark.parametrize(
    "head",
    [
        "Content-Disposition: form-data; name=model",  # .NET
        'Content-Disposition: form-data; name="model"\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 9',
        'CONTENT-DISPOSITION:  FORM-DATA ; NAME="model" ;\r\nContent-Transfer-Encoding: binary',
        # Apache's HttpClient
        'Content-Disposition: form-data; name="model"\r\nContent-Type: text/plain; charset=ISO-8859-1',
    ],
)
def test_what_clients_write_is_read(head: str) -> None:
    assert read(b"\r\n" + form(f"{head}\r\n\r\nwhisper-1") + b"\r\n").form.fields == {"model": "whisper-1"}
    named = "Content-Disposition: form-data; name=file; filename=a.mp3; filename*=utf-8''a.mp3\r\n\r\nx"
    assert [file.name for file in read(form(named)).form.files] == ["file"]


def test_a_file_streams_once_what_decides_the_cost_has_come() -> None:
    before = form(MODEL, PROMPT, FILE + "x")
    assert read(before).is_ready
    assert read(before, size=KEPT_BYTES_MAX + 1).is_ready
    assert not read(before, size=KEPT_BYTES_MAX).is_ready  # small: kept, so that fields may come in any order
    assert not read(form(MODEL, FILE + "x", PROMPT)).is_ready
    assert read(form(MODEL, FILE + "x", PROMPT, FILE.replace('"file"', '"image[]"') + "y")).is_ready
    keeping = FormRules(fields=RULES.fields, files=RULES.files, keeps_files=True)
    assert not read(before, rules=keeping).is_ready


@pytest.mark.parametrize("pieces", [1, 1 << 20])
def test_a_field_that_comes_too_late_is_refused(pieces: int) -> None:
    late = form(MODEL, PROMPT, FILE + "x", 'Content-Disposition: form-data; name="n"\r\n\r\n10')
    assert read(late, pieces=pieces, size=len(late)).form.fields["n"] == "10"
    assert refusal(late, pieces=pieces).param == "n"
    other = form(MODEL, PROMPT, FILE + "x", 'Content-Disposition: form-data; name="user"\r\n\r\nme')
    assert read(other, pieces=pieces).is_ready


@pytest.mark.parametrize("pieces", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    ("part", "param"),
    [
        (MODEL, "model"),  # twice
        (MODEL.replace('"model"', '"Model"'), "Model"),
        (MODEL.replace('"model"', "model[]"), "model[]"),
        (MODEL.replace('"model"', '"model[0]"'), "model[0]"),
        (MODEL.replace('"model"', '"mo_del"'), "mo_del"),
        (MODEL.replace('"model"', '"image"'), "image"),
        (MODEL.replace('"model"', '"_charset_"'), "_charset_"),
        (MODEL.replace('"model"', '"file_id"'), "file_id"),
        (MODEL.replace('"model"', '"n"; filename="n"'), "n"),
        (MODEL.replace('"model"', '"file"'), "file"),
        (PROMPT.replace("\r\n\r\n", "\r\nContent-Type: text/plain; charset=utf-16\r\n\r\n"), "prompt"),
        (PROMPT.replace("\r\n\r\n", "\r\nContent-Type: application/json\r\n\r\n"), "prompt"),
        (FILE + "x\r\n--b0\r\n" + FILE + "y", "file"),
    ],
)
def test_a_second_way_to_say_a_field_is_refused_by_name(part: str, param: str, pieces: int) -> None:
    assert refusal(form(MODEL, part), pieces=pieces).param == param


@pytest.mark.parametrize("pieces", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    "part",
    [
        "Content-Disposition: form-data; name*=utf-8''prompt\r\n\r\nx",
        'Content-Disposition: form-data; name="a"; name="prompt"\r\n\r\nx',
        'Content-Disposition: form-data; name="p%72ompt"\r\n\r\nx',
        'Content-Disposition: form-data; name="pr\\ompt"\r\n\r\nx',
        'Content-Disposition: form-data; name="a"; filename="\\"; name=prompt; x=\\""\r\n\r\nx',
        'Content-Disposition: form-data; name=""\r\n\r\nx',
        "Content-Disposition: form-data\r\n\r\nx",
        'Content-Disposition: attachment; name="prompt"\r\n\r\nx',
        'Content-Disposition: form-data; name="a"\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nx',
        'Content-Disposition: form-data;\r\n name="prompt"\r\n\r\nx',
        'X: y\nContent-Disposition: form-data; name="prompt"\r\n\r\nx',
        'Content-Disposition : form-data; name="prompt"\r\n\r\nx',
        'no header\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nx',
        PROMPT.replace("\r\n\r\n", "\r\nContent-Transfer-Encoding: base64\r\n\r\n"),
        PROMPT.replace("\r\n\r\n", "\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n"),
        FILE + "x--b0",
        FILE + 'x\n--b0\nContent-Disposition: form-data; name="prompt"\n\ny',
        FILE.rstrip("\r\n") + "\r\n\r\n--b0--",
        'Content-Disposition: form-data; name="a--b0"\r\n\r\nx',
        f'X: {"y" * HEAD_BYTES_MAX}\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nx',
        "\r\nx",
    ],
)
def test_a_part_that_parsers_read_differently_is_refused(part: str, pieces: int) -> None:
    error = refusal(form(MODEL, part), pieces=pieces)
    assert "form cannot be read" in str(error)
    assert error.param is None


@pytest.mark.parametrize("pieces", [1, 1 << 20])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        form(MODEL)[:-6],
        form(MODEL)[:-30],
        b"--b0",
        b"preamble\r\n" + form(MODEL),
        form(MODEL).replace(b"b0", b"b1"),
        form(MODEL) + b"--b0\r\n" + PROMPT.encode(),
        form(MODEL) + b" " * (HEAD_BYTES_MAX + 1),
        form(MODEL).replace(b"--b0--", b"--b0 x"),
        form(*["Content-Disposition: form-data; name=a\r\n\r\n"] * (PARTS_MAX + 1)),
        form("Content-Disposition: form-data; name=a\r\n\r\n" + "x" * (FIELDS_BYTES_MAX + 1)),
        b'{"model": "whisper-1"}',
    ],
)
def test_what_is_not_a_whole_form_is_refused(body: bytes, pieces: int) -> None:
    if pieces == 1 and len(body) > FIELDS_BYTES_MAX:
        pieces = 65_536
    assert "form cannot be read" in str(refusal(body, pieces=pieces))


def test_a_field_is_utf_8() -> None:
    body = form(MODEL).replace(b"whisper-1", b"\xff\xfe")
    assert refusal(body).param == "model"
    latin = PROMPT.replace("\r\n\r\n", "\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\r\n")
    assert refusal(form(MODEL, latin.replace("Words", "W\u00f6rter"))).param == "prompt"  # which would be read as other letters


@pytest.mark.parametrize("charset", ["utf-7", "utf-16", '"cp037"', "ISO-8859-1"])
def test_a_content_type_that_states_another_charset_is_refused(charset: str) -> None:
    with pytest.raises(RequestRejectedError, match="charset"):
        FormReader(f"{CONTENT_TYPE}; charset={charset}", RULES)
    FormReader(f"{CONTENT_TYPE}; charset=UTF-8", RULES)


@pytest.mark.parametrize("blanks", [" ", "\t"])
def test_a_head_costs_its_length(blanks: str) -> None:
    """Not its square: with a megabyte of blanks, that would be hours."""
    _read_part_head(b"Content-Disposition: form-data; name=a" + blanks.encode() * 10 + b"; filename=b")
    with pytest.raises(RequestRejectedError):
        _read_part_head(b"Content-Disposition: form-data; name=a" + blanks.encode() * (1 << 20) + b'"')


@pytest.mark.parametrize("pieces", [1, 1 << 20])
def test_no_more_files_stream_than_are_held(pieces: int) -> None:
    rules = FormRules(fields=RULES.fields, files=RULES.files, needed=RULES.needed, files_max=2)
    picture = FILE.replace('"file"', '"image[]"') + "x"
    assert len(read(form(MODEL, PROMPT, picture, picture), pieces=pieces, rules=rules).form.files) == 2
    early = form(picture, picture, picture, MODEL, PROMPT, picture)  # all of which are held
    assert len(read(early, pieces=pieces, rules=rules).form.files) == 4
    for more in (picture, FILE.replace('"file"', '"other"') + "x"):
        with pytest.raises(RequestRejectedError, match="more than 2 files"):
            read(form(MODEL, PROMPT, picture, picture, more), pieces=pieces, rules=rules)
    whole = form(MODEL, PROMPT, picture, picture, picture)
    assert len(read(whole, pieces=pieces, rules=rules, size=len(whole)).form.files) == 3
