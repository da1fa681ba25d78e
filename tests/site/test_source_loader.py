"""User source written down, imported and looked into."""

from __future__ import annotations

import pickle
import random
import shutil
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from appfl_gc.protocol.errors import SourceRefusedError, UserCodeError
from appfl_gc.protocol.source import Source
from appfl_gc.site.source_loader import SourceLoader, user_frames
from appfl_gc.site.user_errors import user_errors


@pytest.fixture
def loader(tmp_path: Path) -> SourceLoader:
    return SourceLoader(tmp_path / "cache")


def source(kind: str, name: str, text: str, filename: str = "./resources/user.py") -> Source:
    return Source(kind, name, filename, textwrap.dedent(text))


def test_a_cache_that_somebody_clears_at_that_moment_is_made_again(
    loader: SourceLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, cleared = Path.write_bytes, list[Path]()

    def clear_and_write(path: Path, content: bytes) -> int:
        if not cleared:
            cleared.append(path)
            shutil.rmtree(path.parents[1])
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", clear_and_write)
    assert loader.load(source("model", "First", "class First: pass\n")).target.__name__ == "First"
    assert cleared


def test_takes_the_named_class(loader: SourceLoader) -> None:
    loaded = loader.load(source("model", "First", "class First: pass\nclass Second: pass\n"))
    assert loaded.target.__name__ == "First"
    assert loaded.title == "First in ./resources/user.py"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("loss", "LastClass"),
        ("trainer", "LastClass"),
        ("aggregator", "LastClass"),
        ("scheduler", "LastClass"),
        ("metric", "last_function"),
        ("dataset", "last_function"),
        ("model", "last_function"),
    ],
)
def test_an_empty_name_takes_the_last_of_the_fitting_sort_that_the_file_defines(
    loader: SourceLoader, kind: str, expected: str
) -> None:
    text = """
        class FirstClass: pass
        class LastClass: pass
        def first_function(): pass
        def last_function():
            def inner(): pass
        from collections import OrderedDict
        from os.path import join
    """
    assert loader.load(source(kind, "", text)).target.__name__ == expected


def test_the_same_text_is_imported_once_and_its_objects_can_be_pickled(
    loader: SourceLoader, tmp_path: Path
) -> None:
    text = "class Thing:\n    def __init__(self, n): self.n = n\n"
    first = loader.load(source("model", "Thing", text)).target
    again = SourceLoader(tmp_path / "another").load(source("model", "Thing", text)).target
    assert first is again
    assert pickle.loads(pickle.dumps(first(3))).n == 3


def test_another_text_under_the_same_file_name_is_another_module(loader: SourceLoader) -> None:
    old = loader.load(source("model", "f", "def f(): return 1\n")).target
    new = loader.load(source("model", "f", "def f(): return 2\n")).target
    assert (old(), new()) == (1, 2)


def test_a_file_that_was_changed_on_disk_is_not_what_runs(loader: SourceLoader, tmp_path: Path) -> None:
    what = source("metric", "f", "def f(): return 'sent, not tampered'\n")
    path = loader.load(what).path
    path.write_text("def f(): return 'tampered'\n")
    for name in [name for name in sys.modules if what.sha256 in name]:
        del sys.modules[name]
    loaded = loader.load(what)
    assert loaded.target() == "sent, not tampered"
    assert loaded.path.read_text() == what.text


def test_many_workers_may_write_the_same_file_at_once(loader: SourceLoader) -> None:
    what = source("metric", "f", f"def f(): return 1\n# {'x' * 200_000}\n")
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: loader._materialise(what.text or "", what.sha256, "m.py"), range(24)))
    assert {path.read_text() for path in paths} == {what.text}
    assert [path.name for path in paths[0].parent.iterdir()] == ["m.py"]


def test_importing_leaves_random_generators_and_settings_as_they_were(loader: SourceLoader) -> None:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    loader.load(
        source(
            "metric",
            "f",
            """
            import random, numpy, torch
            random.seed(0); numpy.random.seed(0); torch.manual_seed(0)
            torch.set_default_dtype(torch.float64)
            def f(): pass
            """,
        )
    )
    after = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    assert before == after
    assert torch.get_default_dtype() == torch.float32


def test_a_worker_that_seeds_random_does_not_move_the_files_of_another(tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        import random
        from pathlib import Path
        from appfl_gc.protocol.source import Source
        from appfl_gc.site.source_loader import SourceLoader
        random.seed(7)
        state = random.getstate()
        loaded = SourceLoader(Path({str(tmp_path)!r})).load(Source("metric", "f", "f.py", "def f(): return 5"))
        assert random.getstate() == state and loaded.target() == 5
        print(loaded.path)
    """)
    first, second = (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        for _ in "ab"
    )
    assert first == second


def load_error(loader: SourceLoader, text: str, kind: str = "model", name: str = "f") -> UserCodeError:
    with pytest.raises(UserCodeError) as caught:
        loader.load(source(kind, name, text, "./resources/net.py"))
    return caught.value


def test_a_syntax_error_names_file_line_and_code(loader: SourceLoader) -> None:
    error = load_error(loader, "x = 1\ndef f(:\n    pass\n")
    assert "./resources/net.py" in error.message
    assert "line 2" in error.message
    assert "def f(:" in error.message
    assert user_frames(error, loader.source_dirs) == ("net.py:2",)


def test_a_missing_package_is_named_with_where_to_install_it(loader: SourceLoader) -> None:
    error = load_error(loader, "\nimport no_such_package_at_all.part\n")
    assert "no_such_package_at_all is not installed" in error.message
    assert "line 2" in error.message
    assert "at the site" in error.hint


def test_sys_exit_at_import_is_an_error_like_any_other(loader: SourceLoader) -> None:
    error = load_error(loader, "import sys\nsys.exit(3)\n")
    assert "sys.exit(3) was called in net.py line 2" in error.message
    assert not [name for name in sys.modules if name.endswith("_net") and name.startswith("appfl_gc_source")]


def test_a_failed_import_is_tried_again(loader: SourceLoader, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import os\nif 'ALLOW_IMPORT' not in os.environ: raise ValueError('no')\ndef f(): return 1\n"
    assert "ValueError in net.py line 2: no" in load_error(loader, text).message
    monkeypatch.setenv("ALLOW_IMPORT", "1")
    assert loader.load(source("model", "f", text, "net.py")).target() == 1


def test_a_name_that_the_file_lacks_gets_the_nearest_one(loader: SourceLoader) -> None:
    error = load_error(loader, "class CNN: pass\n", name="CMN")
    assert "no 'CMN'" in error.message
    assert error.hint == "Did you mean CNN?"


def test_a_file_without_the_fitting_sort_says_what_it_defines(loader: SourceLoader) -> None:
    error = load_error(loader, "class CNN: pass\n", name="")
    assert "defines no function" in error.message
    assert "CNN" in error.hint and "model_name" in error.hint


def test_user_frames_are_only_the_users_outermost_first(loader: SourceLoader) -> None:
    text = """
        import json
        def outer(callback):
            return inner(callback)
        def inner(callback):
            return callback()
    """
    outer = loader.load(source("metric", "outer", text)).target
    with pytest.raises(UserCodeError) as caught, user_errors("The metric failed"):
        outer(lambda: int("no number"))
    assert user_frames(caught.value) == ("user.py:4 in outer", "user.py:6 in inner")
    assert "user.py line 6" in caught.value.message


def test_frames_of_a_deep_recursion_are_capped(loader: SourceLoader) -> None:
    f = loader.load(source("metric", "f", "def f(): return f()\n")).target
    with pytest.raises(UserCodeError) as caught, user_errors("The metric failed"):
        f()
    frames = user_frames(caught.value)
    assert len(frames) == 31
    assert frames[10].startswith("... ")


def test_interrupts_pass() -> None:
    with pytest.raises(KeyboardInterrupt), user_errors("It failed"):
        raise KeyboardInterrupt


class TestNamesOfTheSitesPolicy:
    def test_a_name_loads_the_function_of_the_sites_own_file(
        self, loader: SourceLoader, tmp_path: Path
    ) -> None:
        file = tmp_path / "loaders.py"
        file.write_text(
            "from pathlib import Path\ndef get(): return Path(__file__).name\ndef other(): pass\n"
        )
        loaded = loader.load(Source("dataset", "patients"), {"patients": f"{file}:get"})
        assert loaded.target() == "loaders.py"
        assert loaded.path == file

    def test_without_a_function_it_takes_the_last(self, loader: SourceLoader, tmp_path: Path) -> None:
        file = tmp_path / "loaders.py"
        file.write_text("def get(): pass\ndef last(): pass\n")
        assert loader.load(Source("dataset", "patients"), {"patients": str(file)}).name == "last"

    def test_a_change_of_the_file_is_seen(self, loader: SourceLoader, tmp_path: Path) -> None:
        file = tmp_path / "loaders.py"
        for value in (1, 2):
            file.write_text(f"def get(): return {value}\n")
            assert loader.load(Source("dataset", "p"), {"p": f"{file}:get"}).target() == value

    def test_an_unknown_name_is_refused(self, loader: SourceLoader) -> None:
        with pytest.raises(SourceRefusedError, match="names no dataset 'patients'; it names: weather"):
            loader.load(Source("dataset", "patients"), {"weather": "/x.py:get"})

    def test_a_file_that_is_not_there_is_named(self, loader: SourceLoader, tmp_path: Path) -> None:
        with pytest.raises(UserCodeError, match=r"gone\.py"):
            loader.load(Source("dataset", "p"), {"p": f"{tmp_path}/gone.py:get"})
