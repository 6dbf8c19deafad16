"""Answers that come to an end: a store that never stops talking must not hold anybody for ever.

A limit on silence is not enough. A server that says a little now and then is never silent, and one
that says very much fills the memory.
"""

from __future__ import annotations

import time
from typing import Any

from botocore import exceptions as boto
from botocore.awsrequest import AWSResponse
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError, ProtocolError, ReadTimeoutError

SLOWEST_BYTES_PER_SECOND = 1024
"""An answer may be as slow as this beyond the time of a stall: a poor modem is ten times faster."""
LARGEST_ANSWER_BYTES = 32 * 1024 * 1024
"""A page of a thousand of the longest keys, each byte of them escaped, has a tenth of that."""
PIECE_BYTES = 64 * 1024


def overdue(seconds: float, answer_bytes: int, stall_seconds: float) -> bool:
    """Tell whether an answer that began so long ago should be whole by now. Pure."""
    return seconds > stall_seconds + answer_bytes / SLOWEST_BYTES_PER_SECOND


class EndingAnswers:
    """Stands before botocore's HTTP session and reads each answer's body with limits.

    Bodies of objects, which are streamed to whoever asked, pass as they are. Safe from every thread.
    """

    def __init__(self, session: Any, stall_seconds: float) -> None:
        self._session = session
        self._stall_seconds = stall_seconds

    def send(self, request: Any) -> AWSResponse:
        """Send a request. Raises what botocore's own session does, and ResponseParserError."""
        streamed = request.stream_output
        request.stream_output = True  # or the body would be read to its end in there
        answer: AWSResponse = self._session.send(request)
        if streamed:
            return answer
        try:
            body = self._read(answer.raw, request.url)
        except ReadTimeoutError as error:
            raise boto.ReadTimeoutError(endpoint_url=request.url, error=error) from error
        except ProtocolError as error:
            raise boto.ConnectionClosedError(
                endpoint_url=request.url, request=request, error=error
            ) from error
        except HTTPError as error:
            raise boto.HTTPClientError(error=error) from error
        headers: Any = answer.headers
        return AWSResponse(answer.url, answer.status_code, headers, _Whole(body))

    def close(self) -> None:
        """Close the session's connections."""
        self._session.close()

    def _read(self, raw: Any, url: str) -> bytes:
        body = bytearray()
        began = time.monotonic()
        try:
            while piece := raw.read1(PIECE_BYTES, decode_content=False):
                body += piece
                if len(body) > LARGEST_ANSWER_BYTES:
                    raise ResponseParserError(
                        f"the answer has more than {LARGEST_ANSWER_BYTES} bytes"
                    )
                if overdue(time.monotonic() - began, len(body), self._stall_seconds):
                    late = TimeoutError("the answer did not come to an end")
                    raise boto.ReadTimeoutError(endpoint_url=url, error=late)
        except BaseException:
            raw.close()  # what is still to come must not be taken for the next answer
            raise
        raw.release_conn()
        return bytes(body)


class _Whole:
    """A body that was read, in the shape in which botocore reads it."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self) -> list[bytes]:
        """Give the body in pieces: one."""
        return [self._body]
