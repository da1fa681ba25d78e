"""What a site says is kept at the server, up to a size."""

from __future__ import annotations

from pathlib import Path

from appfl_gc.runner.client_logs import LAST_LINE, MOST_BYTES, ClientLogs


def test_lines_are_kept_by_client(tmp_path: Path) -> None:
    logs = ClientLogs(lambda client: tmp_path / client)
    assert logs.keep("A", ["one", "zwei ü"]) == ["one", "zwei ü"]
    assert logs.keep("B", []) == []
    logs.keep("A", ["three"])
    assert (tmp_path / "A").read_text("utf-8") == "one\nzwei ü\nthree\n"
    assert not (tmp_path / "B").exists()


def test_a_site_that_never_stops_talking_fills_its_own_log_only(tmp_path: Path) -> None:
    logs = ClientLogs(lambda client: tmp_path / client)
    reply = ["x" * 499] * 500
    kept = [logs.keep("A", reply) for _ in range(MOST_BYTES // 250_000 + 5)]
    assert (tmp_path / "A").stat().st_size <= MOST_BYTES + 500
    assert (tmp_path / "A").read_text().splitlines()[-1] == LAST_LINE
    assert sum(line == LAST_LINE for lines in kept for line in lines) == 1
    assert kept[-1] == [], "nor do they get into the server's own log"
    assert logs.keep("B", ["still heard"]) == ["still heard"]


def test_a_server_that_goes_on_with_a_run_counts_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "A").write_bytes(b"x" * (MOST_BYTES - 10) + b"\n")
    logs = ClientLogs(lambda client: tmp_path / client)
    assert logs.keep("A", ["four", "five!", "six"]) == ["four", LAST_LINE]
    (tmp_path / "B").write_bytes(b"x" * (MOST_BYTES + 10))
    assert logs.keep("B", ["more"]) == []
