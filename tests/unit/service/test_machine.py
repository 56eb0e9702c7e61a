"""What a machine gives, read from files as Linux writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.machine import Used, cores, quota, used


def write(root: Path, name: str, text: str) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_two_threads_of_a_core_are_one(tmp_path: Path) -> None:
    for number, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        write(tmp_path, f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list", f"{siblings}\n")
    assert cores({0, 1, 2, 3}, tmp_path) == 2
    assert cores({0, 2}, tmp_path) == 1
    assert cores({0, 1}, tmp_path) == 2


def test_where_nothing_is_told_every_processor_is_a_core(tmp_path: Path) -> None:
    assert cores({0, 1, 7}, tmp_path) == 3
    assert quota(tmp_path) is None


@pytest.mark.parametrize(
    ("of_group", "above", "wanted"),
    [
        ("150000 100000", "max 100000", 1.5),
        ("max 100000", "200000 100000", 2.0),
        ("400000 100000", "50000 100000", 0.5),
        ("max 100000", "max 100000", None),
    ],
)
def test_the_least_quota_of_all_groups_above_counts(
    tmp_path: Path, of_group: str, above: str, wanted: float | None
) -> None:
    write(tmp_path, "proc/self/cgroup", "0::/kube/pod\n")
    write(tmp_path, "sys/fs/cgroup/kube/pod/cpu.max", f"{of_group}\n")
    write(tmp_path, "sys/fs/cgroup/kube/cpu.max", f"{above}\n")
    assert quota(tmp_path) == wanted


def test_a_container_sees_its_own_group_as_the_root(tmp_path: Path) -> None:
    """Its path is that of the host, and what is mounted is the group itself."""
    write(tmp_path, "proc/self/cgroup", "0::/system.slice/docker-12ab.scope\n")
    write(tmp_path, "sys/fs/cgroup/cpu.max", "300000 100000\n")
    assert quota(tmp_path) == 3.0


@pytest.mark.parametrize("folder", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize(("most", "wanted"), [("250000", 2.5), ("-1", None)])
def test_the_first_version_of_control_groups(
    tmp_path: Path, folder: str, most: str, wanted: float | None
) -> None:
    write(tmp_path, "proc/self/cgroup", "4:memory:/other\n3:cpu,cpuacct:/docker/12ab\n")
    write(tmp_path, f"sys/fs/cgroup/{folder}/docker/12ab/cpu.cfs_quota_us", f"{most}\n")
    write(tmp_path, f"sys/fs/cgroup/{folder}/docker/12ab/cpu.cfs_period_us", "100000\n")
    assert quota(tmp_path) == wanted


def test_only_what_these_processors_spent_counts_and_no_idle_time(tmp_path: Path) -> None:
    lines = ["cpu  9 9 9 9 9 9 9 9", "cpu0 100 10 30 5000 70 1 2 0", "cpu1 700 0 0 1 0 0 0 0", "intr 1 2"]
    write(tmp_path, "proc/stat", "\n".join(lines))
    both, one = used({0, 1}, 0.0, tmp_path), used({0}, 0.0, tmp_path)
    assert one.all_s == pytest.approx(1.43)
    assert both.all_s == pytest.approx(8.43)


def test_what_others_took_is_all_but_our_own() -> None:
    earlier = Used(at_s=10.0, all_s=100.0, own_s=7.0)
    assert Used(14.0, 108.0, 11.0).others_since(earlier) == 1.0
    assert Used(14.0, 103.0, 11.0).others_since(earlier) == 0.0  # counted in hundredths: never below nothing
    assert Used(10.1, 101.0, 7.0).others_since(earlier) == 0.0  # too short to tell
