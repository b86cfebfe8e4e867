"""Tokens that a provider counts around the texts of prompts and answers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFraming:
    """Tokens generated around what an answer shows.

    answer      around the whole: the channel it is written in, the end of a turn where it is billed
    call        around each call of a tool
    parallel    once more where an answer calls more than one
    """

    answer: int = 0
    call: int = 0
    parallel: int = 0

    def tokens(self, *, answers: int, calls: int) -> int:
        framed = answers * self.answer + calls * self.call
        return framed + self.parallel if calls > 1 else framed


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFraming:
    """Tokens around the texts of a prompt.

    reply            once, where there are messages
    message          around each message
    call             around each call of a tool that an earlier answer made
    tools            once, where there are tools: what tells the model how to use them
    tool             around each tool
    is_namespace     tools are read as types of a namespace (`tool_text`), else as something like their JSON
    tool_permille    thousandths of that, in our count, that the model reads
    schema           around the form that an answer must have; below 0 where our count of its JSON has more than is read
    schema_permille  thousandths of its JSON, in our count, that the model reads: 0 where it is not billed
    upper            what may come on top where a provider puts in something for some models or settings, such as thinking
    tools_upper      at most instead of `tools`
    schema_upper     at most instead of `schema`
    """

    reply: int = 0
    message: int = 0
    call: int = 0
    tools: int = 0
    tool: int = 0
    is_namespace: bool = False
    tool_permille: int = 1000
    schema: int = 0
    schema_permille: int = 1000
    upper: int = 0
    tools_upper: int = 0
    schema_upper: int = 0
