"""The user's Python files that a configuration names: found, read and checked without running them."""

from __future__ import annotations

import io
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appfl_gc.config.appfl_imports import is_appfl, is_provided, replacement
from appfl_gc.config.document import Document, KeyPath, Mark, show_key
from appfl_gc.config.findings import Findings, did_you_mean
from appfl_gc.config.typing_check import TypedCheck
from appfl_gc.config.user_file import Definition, UserFile, read_user_file, unfit_arguments
from appfl_gc.protocol.source import Source

SITE = "site:"
"""Begins the path of something that the site has itself."""


@dataclass(frozen=True)
class Wanted:
    """Something that a ``*_path`` key names.

    Attributes:
        kind: the kind of source.
        path_key, name_key, kwargs_key: keys of the path, the name in the file and the keyword arguments.
            The last may be empty.
        path, name, kwargs: their values.
        is_class: what to take when there is no name: the last class or the last function.
        positional: how many arguments it is given by position.
    """

    kind: str
    path_key: KeyPath
    name_key: KeyPath
    kwargs_key: KeyPath
    path: str
    name: str
    kwargs: dict[str, Any] | None
    is_class: bool
    positional: int = 0


@dataclass(frozen=True)
class _Loaded:
    text: str
    content: UserFile


class SourceReader:
    """Finds and reads user files; each file once."""

    def __init__(self, directory: Path, findings: Findings) -> None:
        self._directory = directory
        self._findings = findings
        self._files: dict[Path, _Loaded | None] = {}
        self._found: dict[tuple[str, Path], Path | tuple[Path, ...]] = {}

    def read(self, wanted: Wanted, check: TypedCheck, yaml_file: Path) -> Source | None:
        """The source, or None after the errors that say why there is none."""
        if wanted.path.startswith(SITE):
            name = wanted.path.removeprefix(SITE).strip()
            if not name:
                check.error(
                    wanted.path_key, "A name is missing after `site:`.", "Such as `site:hospital_scans`."
                )
                return None
            return Source(wanted.kind, name)
        found = self._find(wanted.path, yaml_file)
        if isinstance(found, tuple):
            places = ", ".join(str(place) for place in found)
            check.error(wanted.path_key, f"There is no file {wanted.path}.", f"Looked for {places}.")
            return None
        loaded = self._load(found, wanted.path)
        if loaded is None:
            return None
        self._check_content(wanted, loaded.content, check)
        return Source(wanted.kind, wanted.name, wanted.path, loaded.text)

    def definition(self, path: str, name: str, yaml_file: Path) -> Definition | None:
        """The function or class ``name`` of a file, or None if there is no such file or name."""
        found = self._find(path, yaml_file)
        loaded = self._load(found, path) if isinstance(found, Path) else None
        return loaded.content.find(name) if loaded is not None else None

    def _find(self, path: str, yaml_file: Path) -> Path | tuple[Path, ...]:
        key = (path, yaml_file)
        if key not in self._found:
            self._found[key] = find_file(path, self._directory, yaml_file)
        return self._found[key]

    def _load(self, path: Path, name: str) -> _Loaded | None:
        if path not in self._files:
            self._files[path] = self._read_file(path, name)
        return self._files[path]

    def _read_file(self, path: Path, name: str) -> _Loaded | None:
        try:
            data = path.read_bytes()
            encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
            text = data.decode(encoding).replace("\r\n", "\n")
        except OSError as error:
            self._findings.error(f"The file cannot be read: {error.strerror or error}.", Mark(name))
            return None
        except (SyntaxError, UnicodeDecodeError):
            self._findings.error("The file is not text in UTF-8.", Mark(name), hint="Save it as UTF-8.")
            return None
        try:
            content = read_user_file(text)
        except SyntaxError as error:
            self._findings.error(f"This is not Python: {error.msg}.", Mark(name, error.lineno))
            return None
        self._check_imports(content, path, name)
        return _Loaded(text, content)

    def _check_imports(self, content: UserFile, path: Path, name: str) -> None:
        for imported in content.imports:
            mark = Mark(name, imported.line)
            top = imported.module.partition(".")[0]
            if imported.level:
                self._findings.error(
                    "The file imports from its own folder, but it is used alone, without its folder.", mark,
                    hint="Put what it needs into the file, or install it at the sites as a package.",
                )  # fmt: skip
            elif is_appfl(imported):
                if not is_provided(imported):
                    what = f"{imported.name} from {imported.module}" if imported.name else imported.module
                    self._findings.error(
                        f"The file imports {what}, which this program does not have.",
                        mark,
                        hint=replacement(imported),
                    )
            elif top and (path.parent / f"{top}.py").is_file():
                self._findings.warning(
                    f"The file imports {top} from {top}.py beside it, but it is used alone, without its folder.", mark,
                    hint="Put what it needs into the file, or install it at the sites as a package.",
                )  # fmt: skip

    def _check_content(self, wanted: Wanted, content: UserFile, check: TypedCheck) -> None:
        sort = "class" if wanted.is_class else "function"
        if not wanted.name:
            definition = content.last(is_class=wanted.is_class)
            if definition is None:
                check.error(
                    wanted.path_key,
                    f"The file {wanted.path} defines no {sort}.",
                    f"Name one with `{wanted.name_key[-1]}`.",
                )
                return
        else:
            definition = content.find(wanted.name)
            if definition is None:
                if not content.star and wanted.name not in content.bound:
                    self._report_absent(wanted, content, check)
                return
        if definition.signature is not None:
            self._check_arguments(wanted, definition, check)

    def _report_absent(self, wanted: Wanted, content: UserFile, check: TypedCheck) -> None:
        names = [found.name for found in content.definitions]
        hint = did_you_mean(wanted.name, names)
        if not hint and names:
            hint = f"It defines {', '.join(names[:10])}."
        check.error(wanted.name_key, f"The file {wanted.path} does not define `{wanted.name}`.", hint)

    def _check_arguments(self, wanted: Wanted, definition: Definition, check: TypedCheck) -> None:
        signature = definition.signature
        if signature is None or wanted.kwargs is None:
            return
        if wanted.positional:
            count = signature.positional
            if count is not None and count < wanted.positional:
                check.error(
                    wanted.name_key if wanted.name else wanted.path_key,
                    f"`{definition.name}` in {wanted.path}:{definition.line} takes {count} arguments;"
                    f" it is given {wanted.positional}.",
                )
            return
        unknown, missing = unfit_arguments(signature, wanted.kwargs)
        for name in unknown:
            check.error(
                (*wanted.kwargs_key, name),
                f"`{definition.name}` in {wanted.path}:{definition.line} does not take `{name}`.",
                did_you_mean(name, signature.names) or f"It takes {', '.join(signature.names) or 'nothing'}.",
            )
        if missing:
            check.error(
                wanted.kwargs_key,
                f"`{definition.name}` in {wanted.path}:{definition.line} needs {', '.join(missing)}.",
                f"Give {'it' if len(missing) == 1 else 'them'} in `{show_key(wanted.kwargs_key[-1:])}`.",
            )


def find_file(path: str, directory: Path, yaml_file: Path) -> Path | tuple[Path, ...]:
    """The file that ``path`` means, or every place that was looked at.

    A relative path is looked for in ``directory``, then beside ``yaml_file``, then in each of its parents.
    """
    wanted = Path(path).expanduser()
    if wanted.is_absolute():
        return wanted if wanted.is_file() else (wanted,)
    home = yaml_file.absolute().parent
    places = tuple(dict.fromkeys(_join(base, wanted) for base in (directory, home, *home.parents)))
    return next((place for place in places if place.is_file()), places)


def _join(base: Path, path: Path) -> Path:
    # "./x" joins to "base/x"; ".." stays, for it may cross a link.
    return base.joinpath(*path.parts)


def yaml_file_of(check: TypedCheck, key: KeyPath, documents: Iterable[Document]) -> Path:
    """The YAML file in which ``key`` was written; the first document's for the command line."""
    files = list(documents)
    mark, _ = check.block.place(key)
    return next((document.path for document in files if document.name == mark.file), files[0].path)
