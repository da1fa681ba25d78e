"""What stands between the SDK and what sites send: text goes through untouched, and is never executed."""

from __future__ import annotations

import json
from typing import Any

from globus_compute_sdk.serialize import ComputeSerializer

from appfl_gc.control.globus_compute.sending.open_call import OpenCall
from appfl_gc.control.message import JSON_HEADER, call_arguments

_LONGEST_REFUSED = 64


class Envelope:
    """A call on its way through the SDK; its text is made when a request is built and kept nowhere else.

    The SDK keeps what it submitted last, so an envelope is emptied once the service has answered.
    """

    def __init__(self, call: OpenCall) -> None:
        self._content: OpenCall | None = call

    @property
    def call(self) -> OpenCall:
        """The call; raises ``RuntimeError`` once the envelope is empty."""
        if self._content is None:
            raise RuntimeError("The envelope is empty; its call was sent.")
        return self._content

    def take(self) -> OpenCall:
        """The call; the envelope is empty then."""
        call, self._content = self.call, None
        return call


class SiteText:
    """What a site returned; emptied once it is read, since the SDK keeps the last results."""

    def __init__(self, text: str) -> None:
        self._text = text

    def take(self) -> str:
        """The text; empty from then on."""
        text, self._text = self._text, ""
        return text


class JsonOnlySerializer(ComputeSerializer):  # type: ignore[misc]  # the SDK has no types
    """Writes JSON and hands results on as text; every strategy of the SDK that executes is out of reach.

    The SDK's own allow-list must hold a strategy for code, and those execute what they read.
    """

    def serialize(self, data: Any) -> str:
        """The arguments of an ``Envelope``, or ``data`` as JSON.

        Raises:
            TypeError: for what JSON can't hold; functions are registered as source, never serialised.
        """
        if isinstance(data, tuple) and len(data) == 1 and isinstance(data[0], Envelope):
            return call_arguments(data[0].call.call)
        return JSON_HEADER + json.dumps(data)

    def deserialize(self, payload: Any) -> SiteText:
        """``payload`` itself if it is text with the JSON header, else its beginning, for ``read_reply`` to refuse.

        Never raises: the SDK would put the whole of the site's text into a message.
        """
        text = payload if isinstance(payload, str) else ""
        return SiteText(text if text.startswith(JSON_HEADER) else text[:_LONGEST_REFUSED])
