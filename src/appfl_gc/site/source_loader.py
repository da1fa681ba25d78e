"""User source that a call carries or the site's policy names: written down, imported, and looked into."""

from __future__ import annotations

import ast
import hashlib
import importlib.abc
import importlib.util
import inspect
import os
import re
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from appfl_gc.compat.importing import mentions_appfl, user_builtins
from appfl_gc.protocol.errors import SourceRefusedError, UserCodeError
from appfl_gc.protocol.source import Source
from appfl_gc.site.data.torchvision_import import prepare_torchvision
from appfl_gc.site.nearest_name import nearest_name
from appfl_gc.site.trainer.random_state import isolated
from appfl_gc.site.user_errors import MODULE_PREFIX, user_errors, user_frames

__all__ = ["LoadedSource", "SourceLoader", "user_frames"]

_CLASS_KINDS = frozenset({"loss", "trainer", "aggregator", "scheduler"})
_NAME_KEYS = {
    "model": "model_name",
    "loss": "loss_fn_name",
    "metric": "metric_name",
    "trainer": "trainer",
    "dataset": "dataset_name",
    "aggregator": "aggregator",
    "scheduler": "scheduler",
}
_NO_NAMES: Mapping[str, str] = {}
_TRIES = 5


@dataclass(frozen=True)
class LoadedSource:
    """A class or function from a user's file.

    Attributes:
        kind: what it is for, one of ``protocol.source.KINDS``.
        name: its name in the file.
        filename: the file's name as the user knows it.
        path: where the file lies on this machine.
        target: the class or function itself.
    """

    kind: str
    name: str
    filename: str
    path: Path
    target: Any

    @property
    def title(self) -> str:
        """How messages call it: ``CNN in ./resources/model/cnn.py``."""
        return f"{self.name} in {self.filename}"


class SourceLoader:
    """Loads user source below one cache directory.

    A file's module is registered in ``sys.modules`` under a name made from its hash, so that the same text is
    imported once per process, and objects of its classes can be pickled there and in forked workers.
    Importing leaves the random generators and PyTorch's settings as they were: whether a module was imported
    in this task or an earlier one changes no bits.
    """

    def __init__(self, cache: Path) -> None:
        self._directory = cache / "sources"

    @property
    def source_dirs(self) -> tuple[Path, ...]:
        """Where the user files lie that calls carried."""
        return (self._directory,)

    def load(self, source: Source, local: Mapping[str, str] = _NO_NAMES) -> LoadedSource:
        """The class or function that ``source`` names.

        An empty name takes the last one that the file defines: a class for a loss, trainer, aggregator or
        scheduler, a function for a metric, dataset or model.

        Args:
            source: the file's text and what to take from it; with no text, a name of the site's policy.
            local: what the site's policy names, as ``path.py:function``.

        Raises:
            SourceRefusedError: the policy has no such name.
            UserCodeError: the file can't be imported or lacks the name.
        """
        if source.text is None:
            return self._load_local(source, local)
        path = self._materialise(source.text, source.sha256, source.filename or f"{source.kind}.py")
        filename = source.filename or path.name
        module = _import_text(f"{MODULE_PREFIX}{source.sha256}_{path.stem}", source.text, path, filename)
        return _pick(source.kind, source.name, module, source.text, filename, path)

    def _load_local(self, source: Source, local: Mapping[str, str]) -> LoadedSource:
        entry = local.get(source.name)
        if entry is None:
            known = ", ".join(sorted(local)) or "none"
            raise SourceRefusedError(
                f"This site's policy names no {source.kind} {source.name!r}; it names: {known}.",
                "Ask the site's owner to add the name to site.yaml, or configure one of those named.",
            )
        place, colon, name = entry.rpartition(":")
        path = Path(place if colon else name).expanduser().absolute()
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserCodeError(
                f"The {source.kind} {source.name!r} of this site's policy, {path}, can't be read: {error}.",
                "The site's owner can correct the path in site.yaml.",
            ) from error
        digest = hashlib.sha256(f"{path}\n{text}".encode()).hexdigest()
        module = _import_text(f"{MODULE_PREFIX}{digest}_{_identifier(path.stem)}", text, path, str(path))
        return _pick(source.kind, name if colon else "", module, text, str(path), path)

    def _materialise(self, text: str, sha256: str, filename: str) -> Path:
        """Write ``text`` where tracebacks find it; aside and renamed, so that workers may do it at once."""
        directory = self._directory / sha256[:32]
        path = directory / f"{_identifier(Path(filename).stem)}.py"
        for tries_left in reversed(range(_TRIES)):
            try:
                _write_once(path, text.encode())
                break
            except OSError as error:
                # Whoever clears the site's cache may have been at it just now.
                if tries_left and isinstance(error, FileNotFoundError):
                    continue
                raise UserCodeError(
                    f"The user file {filename} can't be written to {directory}: {error}.",
                    "Give the site a cache directory that it can write to.",
                ) from error
        return path


def _write_once(path: Path, content: bytes) -> None:
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.parent / f".{path.name}.{os.getpid()}.{secrets.token_hex(8)}"
    aside.write_bytes(content)
    aside.replace(path)


class _TextLoader(importlib.abc.ExecutionLoader):
    """Executes exactly the text that was hashed, whatever lies on disk by now; writes no byte code."""

    def __init__(self, text: str, path: Path) -> None:
        self._text = text
        self._path = path

    def get_source(self, fullname: str) -> str:
        return self._text

    def get_filename(self, fullname: str) -> str:
        return str(self._path)

    def is_package(self, fullname: str) -> bool:
        return False


def _import_text(name: str, text: str, path: Path, filename: str) -> ModuleType:
    module = sys.modules.get(name)
    if module is not None:
        return module
    loader = _TextLoader(text, path)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None:
        raise UserCodeError(f"The user file {filename} can't be imported.")
    module = importlib.util.module_from_spec(spec)
    if mentions_appfl(text):
        module.__dict__["__builtins__"] = user_builtins()
    sys.modules[name] = module
    if "torchvision" in text:
        prepare_torchvision()
    try:
        with isolated(seed=0), user_errors(f"The file {filename} can't be imported", source_dirs=(path,)):
            loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _pick(kind: str, name: str, module: ModuleType, text: str, filename: str, path: Path) -> LoadedSource:
    wants_class = kind in _CLASS_KINDS
    classes, functions = _definitions(text)
    if not name:
        wanted, names = ("class", classes) if wants_class else ("function", functions)
        if not names:
            others = ", ".join(classes if not wants_class else functions)
            key = {"dataset": "dataset_name", "model": "model_name", "metric": "metric_name"}.get(
                kind, "its name"
            )
            raise UserCodeError(
                f"The {kind} file {filename} defines no {wanted}.",
                f"It defines {others}; name the one to take with {key}."
                if others
                else f"Define a {wanted} in it.",
            )
        name = names[-1]
    target = module.__dict__.get(name)
    if target is None:
        defined = [*classes, *functions]
        near = nearest_name(name, defined)
        hint = f"Did you mean {near}?" if near else f"It defines {', '.join(defined) or 'nothing'}."
        raise UserCodeError(f"The {kind} file {filename} has no {name!r}.", hint)
    if not callable(target):
        raise UserCodeError(f"{name} in {filename} is {type(target).__name__}, not a class or function.")
    if kind in {"trainer", "aggregator", "scheduler"} and not inspect.isclass(target):
        raise UserCodeError(f"The {kind} {name} in {filename} is not a class.", "Name a class.")
    return LoadedSource(kind, name, filename, path, target)


def _definitions(text: str) -> tuple[list[str], list[str]]:
    """Names of the classes and of the functions that the file's top level defines, in order."""
    classes: list[str] = []
    functions: list[str] = []
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef):
            classes.append(node.name)
        elif isinstance(node, ast.FunctionDef):
            functions.append(node.name)
    return classes, functions


def _identifier(stem: str) -> str:
    """``stem`` with whatever could upset a module's or a file's name replaced."""
    return re.sub(r"\W", "_", stem, flags=re.ASCII)[:80] or "source"
