"""The providers' own SDKs at a whole gateway; tests/sdk looks at each of their calls."""

from typing import Any

import anthropic
import openai
from client_gateway import Visit
from google import genai
from said import TOKENS, answered, kinds

from tallygate.simulator.words import text_of

PROMPT = f"[[sim tokens={TOKENS}]] Hello"
MESSAGES: list[Any] = [{"role": "user", "content": PROMPT}]


def test_the_openai_sdk_by_its_base_url_alone(visit: Visit) -> None:
    with openai.OpenAI(base_url=f"{visit.url}/v1", api_key=visit.key) as client:
        chat = client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
        chunks = client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True)
        chat_stream = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        response = client.responses.create(model="gpt-4o-mini", input=PROMPT)
        events = client.responses.create(model="gpt-4o-mini", input=PROMPT, stream=True)
        response_stream = "".join(event.delta for event in events if event.type == "response.output_text.delta")

    assert [chat.choices[0].message.content, chat_stream, response.output_text, response_stream] == [text_of(TOKENS)] * 4
    assert kinds(visit.lines()) == answered(("chat", "responses"))
    assert len(visit.counted()) == len(visit.asked()) == 4


def test_the_anthropic_sdk_by_its_base_url_alone(visit: Visit) -> None:
    with anthropic.Anthropic(base_url=visit.url, api_key=visit.key) as client:
        message = client.messages.create(model="claude-haiku-4-5", max_tokens=100, messages=MESSAGES)
        with client.messages.stream(model="claude-haiku-4-5", max_tokens=100, messages=MESSAGES) as stream:
            streamed = stream.get_final_text()

    assert [message.content[0].text, streamed] == [text_of(TOKENS)] * 2
    assert kinds(visit.lines()) == answered(("anthropic",))
    assert len(visit.counted()) == len(visit.asked()) == 2


def test_the_google_genai_sdk_by_its_base_url_alone(visit: Visit) -> None:
    with genai.Client(api_key=visit.key, http_options={"base_url": visit.url}) as client:
        answer = client.models.generate_content(model="gemini-2.5-flash", contents=PROMPT).text
        chunks = client.models.generate_content_stream(model="gemini-2.5-flash", contents=PROMPT)
        streamed = "".join(chunk.text or "" for chunk in chunks)

    assert [answer, streamed] == [text_of(TOKENS)] * 2
    assert kinds(visit.lines()) == answered(("gemini",))
    assert len(visit.counted()) == len(visit.asked()) == 2
