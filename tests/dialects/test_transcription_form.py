"""What is sent beside a recording: texts count as a prompt, samples of speakers by their size, and settings not at all."""

import recordings

from tallygate.dialects.dialect import RequestFacts
from tallygate.dialects.form import FormReader
from tallygate.dialects.openai_transcription import TOKENS_PER_SECOND, TranscriptionForm

SECONDS = 60
SAMPLE = b"data:audio/wav;base64," + b"UklG" * 100


def asked(*fields: tuple[str, bytes]) -> RequestFacts:
    dialect = TranscriptionForm()
    parts = [(f'name="{name}"', value) for name, value in (("model", b"whisper-1"), *fields)]
    parts.append(('name="file"; filename="a.flac"', recordings.flac(SECONDS)))
    body = b"".join(b"--b0\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % (head.encode(), value) for head, value in parts)
    body += b"--b0--\r\n"
    reader = FormReader("multipart/form-data; boundary=b0", dialect.rules, size=len(body))
    reader.feed(body)
    reader.end_form()
    reader.form.body = body
    return dialect.read(reader.form, path={})


def test_a_recording_counts_by_its_length() -> None:
    facts = asked(("language", b"en"), ("timestamp_granularities[]", b"word"))

    assert facts.prompt.tokens == SECONDS * TOKENS_PER_SECOND
    assert (facts.prompt.texts, facts.prompt.opaque_bytes) == ((), 0)


def test_texts_beside_it_are_a_prompt_and_samples_of_speakers_are_not() -> None:
    facts = asked(
        ("prompt", b"Names: Ada"),
        ("known_speaker_names[]", b"agent"),
        ("known_speaker_references[]", SAMPLE),
        ("hints", b"more words"),
    )

    assert sorted(facts.prompt.texts) == ["Names: Ada", "agent", "more words"]
    assert facts.prompt.opaque_bytes == 316  # three quarters of its text
