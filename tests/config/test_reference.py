from __future__ import annotations

from pathlib import Path

from appfl_gc.config.reference import page
from appfl_gc.config.schema.train_configs import TrainConfigs

COMMITTED = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_committed_page_is_up_to_date() -> None:
    assert COMMITTED.read_text() == page(), (
        "Run `python -m appfl_gc.config.reference > docs/configuration.md`."
    )


def test_every_key_has_a_row_with_its_state() -> None:
    text = page()
    for name in TrainConfigs.model_fields:
        assert f"| `{name}` |" in text
    assert "| `use_dp` | true/false | `False` | **not yet** |" in text
    assert "| `num_clients` | whole number | required | works |" in text
