"""Both clients and the whole command line against a real server on a tiny backbone."""

from __future__ import annotations

import asyncio
import csv
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from modeling import Backbone
from service.settings import Settings
from tests.integration.world import SPECS, Live, file_of, save_backbone, tiny
from tests.tiny import WORDS
from tests.unit.trunkline.conftest import Run
from trunkline import AsyncClient, Client, Conflict, Invalid, ItemFailed, NotFound, Unauthorized


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return tiny()


@pytest.fixture(scope="module")
def live(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    store = tmp_path_factory.mktemp("served") / "store"
    with Live(Settings(backbone=str(folder), store=store, device="cpu", token="a-long-secret")) as server:
        yield server


@pytest.fixture
def client(live: Live) -> Iterator[Client]:
    """A client of the server with its token; the tasks of a test are gone after it."""
    with Client(live.url, token=live.token) as connected:
        yield connected
        for task in connected.tasks():
            connected.delete(task.task)


@pytest.fixture
def served(run: Run, live: Live, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line, which finds server and token in the environment."""
    monkeypatch.setenv("TRUNKLINE_URL", live.url)
    monkeypatch.setenv("TRUNKLINE_TOKEN", live.token or "")
    return run


def test_every_kind_of_task_through_the_client(client: Client, backbone: Backbone) -> None:
    for task in SPECS:
        assert client.push(file_of(backbone, task)).task == task
    assert {task.task for task in client.tasks()} == set(SPECS)
    one = client.predict("mood", "w1 w2", raw=True)
    assert one.label in SPECS["mood"].labels
    assert one.version == 1
    assert len(one.logits or []) == 2
    assert one.tokens == 4
    assert client.predict("same", ("w1", "w2")).label in SPECS["same"].labels
    urgency = client.predict("urgency", "w1")
    assert urgency.label is None
    assert -1 <= (urgency.score or 0) <= 1
    assert isinstance(client.predict("tags", "w1").label, list)
    many = client.predict_tasks(["mood", "topic@1", "nope"], ["w1", "w2 w3"], top_k=2)
    assert [len(many[name]) for name in ("mood", "topic@1", "nope")] == [2, 2, 2]
    assert all(answer.error and answer.error.code == "unknown_task" for answer in many["nope"])
    assert len(many["topic@1"][0].scores) == 2


def test_bad_items_fail_alone_and_bad_requests_as_a_whole(client: Client, backbone: Backbone) -> None:
    client.push(file_of(backbone, "mood", max_tokens=16))
    long = "w1 " * 40
    assert client.predict("mood", []) == []
    answers = client.predict("mood", ["w1", long, "w2"])
    assert [answer.ok for answer in answers] == [True, False, True]
    with pytest.raises(ItemFailed, match=r"inputs\[1\]"):
        answers[1].raise_for_error()
    (lone,) = client.predict("mood", [long])
    assert lone.error is not None
    assert lone.error.index == 0
    with pytest.raises(Invalid, match="tokens"):
        client.predict("mood", long)
    assert client.predict("mood", long, truncate=True).truncated
    with pytest.raises(NotFound):
        client.predict("nope", "w1")
    with pytest.raises((Invalid, NotFound)):
        client.predict("../../etc/passwd", "w1")


def test_versions_aliases_and_rollback(client: Client, backbone: Backbone) -> None:
    first = client.push(file_of(backbone, "mood", 1))
    assert first.created
    assert not client.push(file_of(backbone, "mood", 1)).created
    second = client.push(file_of(backbone, "mood", 2), alias=None)
    assert client.task("mood").production == first.version < second.version
    state = client.promote("mood", second.version, expect_revision=client.task("mood").revision)
    assert state.production == second.version
    with pytest.raises(Conflict):
        client.promote("mood", first.version, expect_revision=0)
    assert client.rollback("mood").production == first.version
    assert client.version("mood", second.version).state == "resident"
    with pytest.raises(Conflict):
        client.delete("mood", first.version)
    client.promote("mood", first.version, alias="previous")
    client.delete("mood", second.version)
    with pytest.raises(NotFound):
        client.version("mood", second.version)


def test_what_is_no_adapter_is_refused_and_changes_nothing(client: Client, backbone: Backbone) -> None:
    data = file_of(backbone, "mood")
    for bad in (data[:-100], b"PK\x03\x04" + data, data.replace(b"head/bias", b"head/bios")):
        with pytest.raises(Invalid) as caught:
            client.push(bad, "mood")
        assert caught.value.errors
    assert client.tasks() == []


def test_token_limits_info_and_readiness(client: Client, live: Live) -> None:
    assert client.ready()
    client.wait_ready(1)
    assert client.info()["backbone"]["family"] == "bert"
    assert client.limits()["max_items"] == 10_000
    with Client(live.url) as stranger, pytest.raises(Unauthorized):
        stranger.tasks()


def test_the_async_client_asks_many_things_at_once(client: Client, backbone: Backbone, live: Live) -> None:
    client.push(file_of(backbone, "mood"))
    texts = [f"w{index}" for index in range(30)]
    alone = [client.predict("mood", text) for text in texts]

    async def together() -> list[str | list[str] | None]:
        async with AsyncClient(live.url, token=live.token) as fast:
            return [
                answer.label for answer in await asyncio.gather(*(fast.predict("mood", t) for t in texts))
            ]

    assert asyncio.run(together()) == [answer.label for answer in alone]


def _rows(path: Path, num_rows: int, seed: int) -> None:
    """Rows whose label is which of two words stands in them: learnable by any backbone."""
    rng, rows = random.Random(seed), []
    for number in range(num_rows):
        label = ("cold", "warm")[number % 2]
        words = [f"w{number % 2}", *rng.choices(WORDS[4:], k=4)]
        rng.shuffle(words)
        rows.append(json.dumps({"text": " ".join(words), "label": label}))
    path.write_text("\n".join(rows) + "\n")


def test_train_evaluate_check_push_predict_delete(
    served: Run, client: Client, folder: Path, tmp_path: Path
) -> None:
    """One task's whole life, typed as a person would."""
    data = tmp_path / "weather"
    data.mkdir()
    _rows(data / "train.jsonl", 64, 1)
    _rows(data / "validation.jsonl", 24, 2)
    file = str(tmp_path / "weather.safetensors")

    on = ["--data", str(data), "--backbone", str(folder)]
    done = served("train", *on, "--task", "weather", "--out", file, "--max-tokens", "32", "--json")
    assert done.exit_code == 0, done.output
    trained = json.loads(done.stdout)
    assert trained["file"]["path"] == file
    assert trained["value"] > trained["baseline"]["accuracy"]
    assert "stage 2: adapter" in done.stderr

    done = served("evaluate", file, *on, "--json", "--rows")
    offline = json.loads(done.stdout)
    assert offline["value"] == trained["value"]
    assert (
        "accuracy"
        in served("evaluate", file, "--data", str(data), "--backbone", str(folder), "--rows").stdout
    )

    done = served("check", file, "--backbone", str(folder))
    assert "agree, largest difference" in done.stdout
    assert json.loads(served("inspect", file, "--json").stdout)["manifest"]["task"] == "weather"
    assert "encoder.0.attn_context/scale" in served("inspect", file).stdout

    assert "weather@1" in served("push", file).stdout
    rows = ["--file", str(data / "validation.jsonl"), "--batch", "5"]
    done = served("predict", "--task", "weather", *rows, "--json")
    assert done.exit_code == 0, done.output
    labels = [json.loads(line)["label"] for line in done.stdout.splitlines()]
    assert labels == [row["label"] for row in offline["rows"]]

    assert "resident" in served("tasks").stdout
    assert served("delete", "weather", "--yes").exit_code == 0
    assert served("predict", "--task", "weather", "w1").exit_code == 1


def _in_every_format(rows: list[dict[str, object]], folder: Path) -> list[Path]:
    """The same rows in files of five formats."""
    table = pa.Table.from_pylist(rows)
    paths = [folder / f"rows.{ending}" for ending in ("csv", "jsonl", "json", "parquet", "arrow")]
    with paths[0].open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)
    paths[1].write_text("".join(json.dumps(row) + "\n" for row in rows))
    paths[2].write_text(json.dumps(rows, indent=2))
    parquet.write_table(table, paths[3])
    with ipc.new_file(paths[4], table.schema) as sink:
        sink.write_table(table)
    return paths


@pytest.mark.parametrize(
    ("name", "options"),
    [("single", ["--text-fields", "body"]), ("pair", ["--text-fields", "body,answer"]), ("choices", [])],
)
def test_the_same_rows_in_five_formats_have_the_answers_of_evaluate(
    served: Run, client: Client, folder: Path, tmp_path: Path, name: str, options: list[str]
) -> None:
    """Trained, evaluated and asked by the names of fields that the task has from its training."""
    rng = random.Random(7)
    rows: list[dict[str, object]] = []
    for number in range(48):
        words = [f"w{number % 2}", *rng.choices(WORDS[4:], k=3)]
        body, label = " ".join(words), ("cold", "warm")[number % 2]
        first, second, third, fourth = rng.sample(WORDS, 4)
        rows.append({"body": body, "answer": f"{first} {second}", "cold": third, "warm": fourth})
        rows[-1] |= {"mark": label, label: "w1 w1 w1 w1"}  # which a choice can be known by
    if name == "choices":
        options = ["--kind", "multiple_choice", "--text-fields", "body", "--choice-fields", "cold,warm"]
    paths = _in_every_format(rows, tmp_path)
    file, on = str(tmp_path / "a.safetensors"), ["--data", str(paths[0]), "--backbone", str(folder)]
    train = ["--task", "weather", "--out", file, "--label-field", "mark", "--method", "linear_probe"]
    done = served("train", *on, *train, *options, "--max-tokens", "32")
    assert done.exit_code == 0, done.output
    done = served("evaluate", file, *on, "--json", "--rows", "--label-field", "mark")
    assert done.exit_code == 0, done.output
    expected = [row["label"] for row in json.loads(done.stdout)["rows"]]
    client.push(file)
    answers = []
    for path in paths:
        out = tmp_path / f"{path.suffix[1:]}.jsonl"
        done = served("predict", "--task", "weather", "--file", str(path), "--out", str(out), "--batch", "7")
        assert done.exit_code == 0, done.output
        answers.append([json.loads(line) for line in out.read_text().splitlines()])
    assert all(answer == answers[0] for answer in answers)
    column = "predicted_index" if name == "choices" else "predicted_label"
    assert [str(row[column]) for row in answers[0]] == expected
    assert len({*expected}) == 2


def test_check_of_a_file_for_another_backbone_lists_what_differs(
    served: Run, folder: Path, backbone: Backbone, tmp_path: Path
) -> None:
    other = save_backbone(tmp_path / "other", seed=5)
    file = tmp_path / "mood.safetensors"
    file.write_bytes(file_of(backbone, "mood"))
    assert served("check", str(file), "--backbone", str(folder), "--json").exit_code == 0
    refused = served("check", str(file), "--backbone", str(other))
    assert refused.exit_code == 1
    assert "manifest.backbone.weights_digest: got" in refused.stderr
    assert f"checked against {other}: name the backbone of the file with --backbone" in refused.stderr


def test_the_command_line_without_the_token(run: Run, live: Live) -> None:
    done = run("tasks", "--url", live.url)
    assert done.exit_code == 1
    assert "token" in done.stderr


def test_train_refuses_in_words(run: Run, tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    for args, status in (
        (["--data", str(empty), "--task", "a"], 1),
        (["--data", str(tmp_path / "none"), "--task", "a"], 1),
        (["--data", str(empty), "--task", "Bad Name"], 2),
        (["--data", str(empty), "--task", "a", "--method", "nonsense"], 2),
    ):
        done = run("train", *args)
        assert done.exit_code == status, done.output
        assert "Traceback" not in done.output
