"""Every dialect under the name that routes use."""

from collections.abc import Mapping

from proxy.dialects.anthropic_messages import AnthropicCountTokens, AnthropicMessages
from proxy.dialects.dialect import Dialect


def dialects() -> Mapping[str, Dialect]:
    """A new registry; dialects hold no state beyond their decoders, so one serves a whole process."""
    known: tuple[Dialect, ...] = (AnthropicMessages(), AnthropicCountTokens())
    return {dialect.name: dialect for dialect in known}
