"""A side of `benchmarks.bare_backbone`: a process that runs batches of token ids when it is asked.

    python -m benchmarks.peers.engines NAME FOLDER BATCHES

It reads BATCHES ({load: [batch of rows of ids]}), runs every one of them and says a line. It answers a line
"load" with the seconds of its batches, and "load PATH" (a tab between) with 0 when the mean states [B, H] of
the first of them are saved there. It ends with its input. A peer that pads sorts rows by length and cuts
them into pieces of the size that was quickest for it, but for `hf padded`; ours gets rows as they come.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Ids = Sequence[Sequence[int]]
Floats = npt.NDArray[np.float32]
Run = Callable[[Ids], Floats]
"""Rows of ids to their mean states [B, H]."""
PIECES = (8, 16, 32, 10_000)
TRIALS = 2


def padded(rows: Ids) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Ids and mask [B, L]; 0 is the padding."""
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    mask = np.zeros_like(ids)
    for row, own in enumerate(rows):
        ids[row, : len(own)] = own
        mask[row, : len(own)] = 1
    return ids, mask


def mean_of(hidden: Floats, mask: npt.NDArray[np.int64]) -> Floats:
    """[B, H] of [B, L, H]."""
    weights = mask.astype(np.float32)
    found: Floats = np.einsum("blh,bl->bh", hidden, weights) / weights.sum(1, keepdims=True)
    return found


def in_pieces(run: Run, rows: Ids, size: int) -> Floats:
    """The rows sorted by length and run `size` at a time, in their own order again."""
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    found = [run([rows[i] for i in order[start : start + size]]) for start in range(0, len(order), size)]
    return np.concatenate(found)[np.argsort(order)]


def hugging_face(folder: Path, threads: int) -> Run:
    """The library's own module on padded rows."""
    import torch
    from transformers import AutoModel

    torch.set_num_threads(threads)
    model = AutoModel.from_pretrained(str(folder), local_files_only=True).eval()

    def run(rows: Ids) -> Floats:
        ids, mask = (torch.from_numpy(values) for values in padded(rows))
        with torch.inference_mode():
            hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
            found: Floats = ((hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)).numpy()
        return found

    return run


def _exported(folder: Path, path: Path) -> None:
    """The library's module as a graph of ONNX with free axes, once for all engines."""
    import torch
    from transformers import AutoModel

    class States(torch.nn.Module):
        """The module with one output."""

        def __init__(self) -> None:
            super().__init__()
            self.model = AutoModel.from_pretrained(
                str(folder), local_files_only=True, attn_implementation="eager"
            ).eval()

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            states: torch.Tensor = self.model(
                input_ids=input_ids, attention_mask=attention_mask
            ).last_hidden_state
            return states

    example = torch.ones((2, 7), dtype=torch.int64)
    axes = {0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens", max=512)}
    torch.onnx.export(
        States().eval(),
        (example, example.clone()),
        str(path),
        input_names=["input_ids", "attention_mask"],
        output_names=["states"],
        dynamic_shapes=(axes, axes),
        dynamo=True,
        verbose=False,
    )


def graph_of(folder: Path) -> Path:
    """Of the backbone, beside the batches of this run."""
    path = Path(os.environ["BARE_BACKBONE_GRAPH"])
    if not path.exists():
        _exported(folder, path)
    return path


def onnx_runtime(folder: Path, threads: int) -> Run:
    """ONNX Runtime on the processor, all of its rewriting on (its default)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(graph_of(folder)), options, providers=["CPUExecutionProvider"])

    def run(rows: Ids) -> Floats:
        ids, mask = padded(rows)
        return mean_of(session.run(None, {"input_ids": ids, "attention_mask": mask})[0], mask)

    return run


def openvino(precision: str, folder: Path, threads: int) -> Run:
    """OpenVINO on the processor for the shortest wait, with a hint of the precision: f32 or bf16."""
    import openvino as ov

    core = ov.Core()
    model = core.compile_model(
        core.read_model(graph_of(folder)),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        },
    )
    request = model.create_infer_request()

    def run(rows: Ids) -> Floats:
        ids, mask = padded(rows)
        found = request.infer({"input_ids": ids, "attention_mask": mask}, share_inputs=True)
        return mean_of(found[0], mask)

    return run


def ours(dtype: str, threads: int) -> Run:
    """Our packed pass over rows without adapters, on the path that the service takes."""
    import torch

    from modeling import Encoded, ServedModel, load_backbone

    torch.set_num_threads(threads)
    model = ServedModel(load_backbone("minilm", dtype=getattr(torch, dtype)))

    def run(rows: Ids) -> Floats:
        encoded = [Encoded(list(ids), [0] * len(ids), len(ids), truncated=False) for ids in rows]
        hidden = model.hidden(encoded, [0] * len(rows))
        found: Floats = torch.stack([states.float().mean(0) for states in hidden]).numpy()
        return found

    run.passes = model.passes  # type: ignore[attr-defined]  # told with the answers
    return run


def made(name: str, folder: Path, threads: int) -> Run:
    """Who runs rows, by name. Raises KeyError."""
    makers: dict[str, Callable[[], Run]] = {
        "ours float32": lambda: ours("float32", threads),
        "ours bfloat16": lambda: ours("bfloat16", threads),
        "hf padded": lambda: hugging_face(folder, threads),
        "hf sorted": lambda: hugging_face(folder, threads),
        "onnxruntime": lambda: onnx_runtime(folder, threads),
        "openvino float32": lambda: openvino("f32", folder, threads),
        "openvino bfloat16": lambda: openvino("bf16", folder, threads),
    }
    return makers[name]()


def seconds_of(run: Run, batches: Sequence[Ids]) -> float:
    started_s = time.perf_counter()
    for rows in batches:
        run(rows)
    return time.perf_counter() - started_s


def quickest(run: Run, batches: Sequence[Ids], sizes: Sequence[int]) -> Run:
    """Cut into pieces of the size that is quickest for the first of these batches."""

    def cut(size: int) -> Run:
        return lambda rows: in_pieces(run, rows, size)

    useful = [size for size in sizes if size < len(batches[0])] + [sizes[-1]]
    seconds = {}
    for size in useful:
        own = cut(size)
        seconds[size] = min(seconds_of(own, batches[:1]) for _ in range(TRIALS))
    return cut(min(seconds, key=seconds.__getitem__))


def prepared(name: str, run: Run, loads: dict[str, list[Ids]]) -> dict[str, Run]:
    """By load: with the size of pieces that suits a peer; it has seen all shapes."""
    ready = {}
    for load, batches in loads.items():
        as_they_come = name.startswith("ours") or name == "hf padded"
        ready[load] = run if as_they_come else quickest(run, batches, PIECES)
        seconds_of(ready[load], batches)
    return ready


def main() -> int:
    name, folder, path = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the libraries print is no answer
    loads: dict[str, list[Ids]] = json.loads(path.read_text())
    run = made(name, folder, threads)
    ready = prepared(name, run, loads)
    passes: Any = getattr(run, "passes", {})
    print(json.dumps(dict(passes)), file=answers, flush=True)
    for line in sys.stdin:
        load, _, out = line.rstrip("\n").partition("\t")
        if out:
            np.save(out, ready[load](loads[load][0]))
        print(0.0 if out else seconds_of(ready[load], loads[load]), file=answers, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
