"""Members that a request of OpenAI's shape must have, and OpenAI's words for their lack."""

from typing import TypeVar

from tallygate.domain.errors import RequestRejectedError

Value = TypeVar("Value")


def required(value: Value | None, name: str) -> Value:
    """The value of a member. Raises RequestRejectedError if there is none."""
    if value is None:
        raise RequestRejectedError(f"Missing required parameter: '{name}'.", param=name)
    return value


def required_model(model: str | None) -> str:
    """The requested model. Raises RequestRejectedError if none is named."""
    if not model:
        raise RequestRejectedError("You must provide a model parameter.", param="model")
    return model
