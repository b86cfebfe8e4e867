"""Tokens that a provider counts around the texts of prompts and answers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFraming:
    """Tokens generated around the visible answer.

    answer      around the whole: its channel, and the end of a turn if that is billed
    call        around each tool call
    parallel    once more if an answer calls several tools
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

    reply            once, if there are messages
    message          around each message
    call             around each tool call of an earlier answer
    tools            once, if there are tools: the instructions for using them
    tool             around each tool
    is_namespace     tools are read as types of a namespace (`tool_text`), else as something like their JSON
    tool_permille    thousandths of that, in our count, that the model reads
    schema           around the schema of the answer; below 0 if our count of its JSON exceeds what is read
    schema_permille  thousandths of its JSON, in our count, that the model reads: 0 if it is not billed
    upper            the most that a provider may add for some models or settings, such as thinking
    tools_upper      the maximum of `tools`
    schema_upper     the maximum of `schema`
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
