"""The user's files that run at the server."""

from __future__ import annotations

from dataclasses import dataclass

from appfl_gc.protocol.errors import UserCodeError
from appfl_gc.protocol.source import Source
from appfl_gc.site.policy import load_policy, policy_path
from appfl_gc.site.source_loader import LoadedSource, SourceLoader


@dataclass(frozen=True)
class ServerSources:
    """The user's files that run at the server."""

    loader: SourceLoader
    sources: dict[str, Source]

    def load(self, kind: str) -> LoadedSource | None:
        """The user's class or function of ``kind``, or None where the configuration names none.

        Raises:
            UserCodeError: if it can't be loaded, or is a name that only sites know.
        """
        source = self.sources.get(kind)
        if source is None:
            return None
        named = load_policy(policy_path()).named if source.text is None else {}
        local = {name: path for (of, name), path in named.items() if of == source.kind}
        if source.text is None and source.name not in local:
            raise UserCodeError(
                f'The server needs the {source.kind} "site:{source.name}" too, for the initial weights or for '
                f"validation, and the site policy of this machine does not name it.",
                "Name it in ~/.appfl_gc/site.yaml here as well, or give a path to a file.",
            )
        return self.loader.load(source, local)
