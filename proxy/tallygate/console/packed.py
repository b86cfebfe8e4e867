"""Answers packed with gzip, for clients that can unpack them."""

import asyncio
import gzip
from functools import partial
from typing import Final

from aiohttp import hdrs, web

PACKED_BYTES_MIN: Final = 4_096  # what is smaller fits into few packets as it is
_pack: Final = partial(gzip.compress, compresslevel=1, mtime=0)  # sums pack to a tenth; more effort gains little


def takes_gzip(request: web.Request) -> bool:
    return "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, "")


async def packed(request: web.Request, response: web.Response) -> web.Response:
    """Pack a whole answer if that is worth it, in a thread, since an answer may have megabytes."""
    body = response.body
    if isinstance(body, bytes) and len(body) >= PACKED_BYTES_MIN:
        response.headers[hdrs.VARY] = hdrs.ACCEPT_ENCODING
        if takes_gzip(request):
            response.body = await asyncio.to_thread(_pack, body)
            response.headers[hdrs.CONTENT_ENCODING] = "gzip"
    return response
