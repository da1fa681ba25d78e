"""Task groups: one a round, few at a time."""

from __future__ import annotations

import uuid

from appfl_gc.control.globus_compute.sending.task_groups import MOST_OPEN, TaskGroups


def test_a_group_a_round() -> None:
    groups = TaskGroups()
    first = groups.of(1)
    assert uuid.UUID(first) and groups.of(1) == first != groups.of(2)


def test_a_group_ends_when_it_is_neither_used_nor_the_newest() -> None:
    groups = TaskGroups()
    first, second, third = groups.of(1), groups.of(2), groups.of(3)
    assert groups.ended(in_use=[first]) == {second}
    assert groups.ended(in_use=[]) == {first}
    assert groups.of(3) == third
    assert groups.of(1) not in (first, second, third)


def test_many_rounds_at_once_share_groups() -> None:
    groups = TaskGroups()
    assert len({groups.of(round_) for round_ in range(100)}) == MOST_OPEN
    assert groups.of(99) == groups.of(50)


def test_the_services_own_group_takes_the_place_of_ours() -> None:
    groups = TaskGroups()
    ours = groups.of(1)
    groups.replace(ours, "theirs")
    assert groups.of(1) == "theirs"
    groups.of(2)
    assert groups.ended(in_use=[]) == {"theirs"}
