"""The command ``appfl-gc simulate``. What needs torch is imported when the command line is found to be right."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appfl_gc.cli.exit_codes import ExitCode
from appfl_gc.cli.failure import tell_diagnostics
from appfl_gc.cli.program import Program

if TYPE_CHECKING:
    from appfl_gc.simulation.past_run import PastRun
    from appfl_gc.simulation.scenario import Request, Scenario
    from appfl_gc.simulation.summary import ClientTotals, Summary
    from appfl_gc.simulation.timeline import Record, Row

TELL_EVERY = 5.0
"""Seconds between two lines of progress."""

MOST_CLIENTS = 12
"""More clients than this are shown by group."""

MOST_GROUPS = 30
IN_PLACE_OF_THE_RUNS = (
    "Hint: What the run's configuration lacks can be set, such as --set 'server_configs.scheduler_kwargs="
    "{max_local_steps: 100}', or comes from a file: --server_config FILE."
)
YEAR = 365.25 * 86400
LONG = 3
"""From so many years on, a duration is not told in days."""

ENDLESS = 1_000_000
"""From so many years on, nobody cares how many."""

PICTURE = "timeline.svg"


@dataclass(frozen=True)
class Options:
    """The command line, parsed."""

    server_config: Path | None
    client_config: Path | None
    profiles: str | None
    run: Path | None
    clients: int | None
    overrides: tuple[str, ...]
    seed: int
    until: float | None
    out: Path | None
    output_format: str

    def request(self) -> Request:
        """What is to be simulated."""
        from appfl_gc.simulation.scenario import Request

        return Request(
            self.server_config,
            self.client_config,
            self.profiles,
            self.run,
            self.clients,
            self.overrides,
            self.seed,
        )


def _a_time(ctx: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    if value is not None and not value > 0:
        raise click.BadParameter("Expected a number of seconds above 0.", ctx, parameter)
    return value


@click.command(
    "simulate",
    cls=Program,
    short_help="Try a schedule on a virtual clock.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--server_config",
    "--server-config",
    "server_config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Server YAML file: scheduler and aggregator.  [default: the run's, else SyncScheduler]",
)
@click.option(
    "--client_config",
    "--client-config",
    "client_config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Client YAML file.  [default: the clients of the run or of the profiles]",
)
@click.option(
    "--profiles",
    metavar="NAME_OR_FILE",
    help="What the clients are like: homogeneous, normal, exponential, four-supercomputers, or a YAML file.  "
    "[default: the run's, else homogeneous]",
)
@click.option(
    "--run",
    metavar="RUN_DIR",
    type=click.Path(path_type=Path),
    help="Clients as they were in this run, and its configuration. With --profiles: its clients with these.",
)
@click.option(
    "--clients", metavar="N", type=click.IntRange(min=1), help="How many clients like the profiles."
)
@click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Override a key, such as server_configs.scheduler=AsyncScheduler. Repeatable.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of all durations, losses and lots.")
@click.option(
    "--until",
    metavar="SECONDS",
    type=float,
    callback=_a_time,
    help="Stop at this virtual time.",
)
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write timeline.jsonl, summary.json and timeline.svg there.",
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json: the summary as one object on stdout; people read stderr.",
)
@click.pass_context
def simulate(ctx: click.Context, /, **parsed: object) -> None:
    """Run schedulers and aggregators on a virtual clock: no site, no training, no waiting.

    The clients come from profiles or from a past run, so that this answers what another scheduler would have done
    with the same clients, or what a federation of 10,000 would do. docs/simulation.md leads through it.
    """
    from appfl_gc.config.diagnostic import ConfigError

    try:
        _simulate(Options(**parsed))  # type: ignore[arg-type]
    except ConfigError as error:
        tell_diagnostics(error.diagnostics)
        if parsed["run"] is not None and parsed["server_config"] is None:
            click.echo(IN_PLACE_OF_THE_RUNS, err=True)
        ctx.exit(ExitCode.CONFIGURATION)


def _simulate(options: Options) -> None:
    from appfl_gc.simulation.engine import simulate as run_simulation
    from appfl_gc.simulation.files import SUMMARY, summary_to_json
    from appfl_gc.simulation.gantt import Gantt
    from appfl_gc.simulation.scenario import prepare
    from appfl_gc.simulation.undisturbed import undisturbed

    scenario = prepare(options.request())
    tell_diagnostics(scenario.federation.warnings)
    for note in scenario.notes:
        click.echo(f"Note: {note}", err=True)
    scheduler, learner = scenario.scheduler(), scenario.learner()
    gantt = Gantt(scenario.profiles, _title(scenario))
    with _recorded(options.out) as written, undisturbed(), scenario.blame():
        summary = run_simulation(
            scheduler,
            scenario.profiles,
            learner,
            seed=scenario.seed,
            until=math.inf if options.until is None else options.until,
            record=_all([*written, gantt.add, Progress().add]),
        )
    content = {**_described(scenario), **summary_to_json(summary)}
    if options.out is not None:
        (options.out / SUMMARY).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        (options.out / PICTURE).write_text(gantt.svg(summary), encoding="utf-8")
    if options.output_format == "json":
        click.echo(json.dumps(content, indent=1))
    else:
        _tell(scenario, summary, options.out)


@contextlib.contextmanager
def _recorded(out: Path | None) -> Iterator[list[Record]]:
    """What writes the rows into ``out``."""
    from appfl_gc.simulation.files import TIMELINE, TimelineFile

    if out is None:
        yield []
        return
    out.mkdir(parents=True, exist_ok=True)
    with TimelineFile(out / TIMELINE) as file:
        yield [file.add]


def _all(records: list[Record]) -> Record:
    def add(row: Row) -> None:
        for record in records:
            record(row)

    return add


class Progress:
    """A line on stderr every ``TELL_EVERY`` seconds."""

    def __init__(self) -> None:
        self._told = time.monotonic()
        self._updates = 0
        self._versions = 0

    def add(self, row: Row) -> None:
        """Count a row, and tell if it is time."""
        from appfl_gc.simulation.timeline import WorkRow

        at = row.end if isinstance(row, WorkRow) else row.at
        self._updates += isinstance(row, WorkRow)
        self._versions += not isinstance(row, WorkRow)
        if time.monotonic() - self._told >= TELL_EVERY:
            self._told = time.monotonic()
            click.echo(
                f"At virtual {_duration(at)}: {self._updates:,} dispatches are back, {self._versions:,} versions.",
                err=True,
            )


def _title(scenario: Scenario) -> str:
    server = scenario.federation.server_configs
    place = f" in place of {server.aggregator}" if server.aggregator_path else ""
    return f"{server.scheduler} and {scenario.aggregator}{place}, {_many(len(scenario.profiles), 'client')}"


def _described(scenario: Scenario) -> dict[str, object]:
    server, past = scenario.federation.server_configs, scenario.past
    return {
        "scheduler": server.scheduler,
        "aggregator": scenario.aggregator,
        "num_global_epochs": server.num_global_epochs,
        "seed": scenario.seed,
        "past": past
        and {
            "seconds": past.seconds,
            "updates": past.updates,
            "steps": past.local_steps,
            "finished": past.finished,
        },
        "notes": list(scenario.notes),
    }


def _tell(scenario: Scenario, summary: Summary, out: Path | None) -> None:
    ended = "finished" if summary.finished else "stopped by --until"
    click.echo(f"{_title(scenario)}: {ended} after virtual {_duration(summary.seconds)}.")
    if scenario.past is not None:
        _tell_past(scenario.past, scenario.federation.server_configs.num_global_epochs, summary)
    folded = f"{summary.folded:,} {'was' if summary.folded == 1 else 'were'} folded"
    click.echo(
        f"{_many(summary.updates, 'update')} of {_many(summary.steps, 'local step')} arrived; "
        f"{folded} into {_many(summary.versions, 'version')}, "
        f"{summary.mean_staleness:.2f} versions behind on average and {summary.max_staleness} at most."
    )
    click.echo(
        f"Of the time in which they could be reached, clients trained {summary.train_share:.1%} and were idle "
        f"{summary.idle_share:.1%}."
    )
    rows = _rows(scenario, summary)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    click.echo("")
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(others, widths[1:], strict=True))]
        click.echo("  " + "  ".join(cells).rstrip())
    if out is not None:
        click.echo(f"\nWrote {out}: timeline.jsonl, summary.json, {PICTURE}.")


def _tell_past(past: PastRun, epochs: int, summary: Summary) -> None:
    """What the run itself took for how much, and how to compare it with as much."""
    ended = "" if past.finished else ", and did not finish"
    click.echo(
        f"The run itself took {_duration(past.seconds)} for {_many(past.updates, 'update')} of "
        f"{_many(past.local_steps, 'local step')}{ended}."
    )
    if summary.finished and summary.updates:
        alike = max(1, round(epochs * past.updates / summary.updates))
        if alike != epochs:
            click.echo(
                f"For about as many updates as it had, give --set server_configs.num_global_epochs={alike}."
            )


def _rows(scenario: Scenario, summary: Summary) -> list[list[str]]:
    """A row for each client, or for each group of many; seconds as shares of the time in reach."""
    groups: dict[str, list[ClientTotals]] = {}
    by_client = len(scenario.profiles) <= MOST_CLIENTS
    for profile in scenario.profiles:
        name = profile.client if by_client else profile.group
        groups.setdefault(name, []).append(summary.clients[profile.client])
    shown = ("queue", "overhead", "train", "transfer", "wasted", "idle")
    rows = [["client" if by_client else "group", "clients", "updates", "steps", *shown]]
    if by_client:
        rows[0].remove("clients")
    for name, members in list(groups.items())[:MOST_GROUPS]:
        reach = sum(summary.seconds - totals.down for totals in members)
        counts = [sum(totals.updates for totals in members), sum(totals.steps for totals in members)]
        spent = [math.fsum(getattr(totals, column) for totals in members) for column in shown]
        rows.append(
            [
                name,
                *([] if by_client else [f"{len(members):,}"]),
                *(f"{count:,}" for count in counts),
                *(f"{seconds / reach:.1%}" if reach > 0 else "-" for seconds in spent),
            ]
        )
    if len(groups) > MOST_GROUPS:
        rows.append([f"and {len(groups) - MOST_GROUPS} more", *[""] * (len(rows[0]) - 1)])
    return rows


def _duration(seconds: float) -> str:
    from appfl_gc.report.figures import seconds_text

    years = seconds / YEAR
    if years < LONG:
        return seconds_text(seconds)
    return f"{years:,.0f} years" if years < ENDLESS else f"more than {ENDLESS:,} years"


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
