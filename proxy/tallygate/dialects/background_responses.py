"""Background responses: where their status is asked for.

Sources: OpenAI, "Background mode"; Azure OpenAI, "Responses API": `GET …/responses/{response_id}`, at Azure without a deployment.
"""

import re
from typing import Final
from urllib.parse import quote

_DEPLOYMENT: Final = re.compile(r"/deployments/[^/]+(?=/responses)")


def response_target(created_at: str, response_id: str) -> str:
    """The path and query of a response, from those at which it was created."""
    path, mark, query = created_at.partition("?")
    return f"{_DEPLOYMENT.sub('', path)}/{quote(response_id, safe='')}{mark}{query}"
