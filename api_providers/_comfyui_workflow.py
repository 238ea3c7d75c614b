"""A ComfyUI workflow in API format as a card uses it: found, checked against the card, and filled with a request.

API format: `{node id: {"class_type": ..., "inputs": {name: value or [node id, output]}, "_meta": {"title": ...}}}`.
Source: Comfy-Org/ComfyUI execution.py (validate_inputs), 2026-11.
"""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router.contract.card import ModelCard
from router.contract.request import Task
from router.contract.words import Words, words

SHIPPED = Path(__file__).parent / "comfyui_workflows"
MEDIA = ("first_frame", "last_frame", "image", "video", "audio")
"""Names whose value is a file on the server; a place without one is taken out of the graph."""
PLAIN = (
    *("prompt", "negative_prompt", "seed", "width", "height", "frames", "duration", "fps", "guidance"),
    "generate_audio",
)
Place = tuple[str, str]
"""Node id and name of one of its inputs."""


class WorkflowError(Exception):
    """The file and the card do not go together; `message` says what to repair."""

    def __init__(self, en: str, ja: str) -> None:
        """The same sentence in both languages."""
        super().__init__(en)
        self.message: Words = words(en, ja)


@dataclass(frozen=True)
class Workflow:
    """A checked workflow: every place exists."""

    graph: Mapping[str, Any]
    places: Mapping[str, tuple[Place, ...]]
    """By our name; each of MEDIA takes one file per place, any other name the same value in all its places."""
    output: str | None
    """Id of the node whose file is the clip; None for the first node that saved one."""

    def filled(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The graph to send. MEDIA names hold a list of file names; what is absent or None keeps the file's own value."""
        graph = copy.deepcopy(dict(self.graph))
        for name, places in self.places.items():
            if name in MEDIA:
                files = list(values.get(name) or ())
                for place, file in zip(places, files, strict=False):
                    graph[place[0]]["inputs"][place[1]] = file
                for node, _ in places[len(files) :]:
                    _take_out(graph, node)
            elif (value := values.get(name)) is not None:
                for node, field in places:
                    graph[node]["inputs"][field] = value
        return graph


def read(card: ModelCard, folders: Sequence[Path]) -> Workflow:
    """The card's workflow, looked for in `folders` and then among ours; blocking. Raises WorkflowError."""
    name = card.wire.get("workflow")
    if not isinstance(name, str) or not name:
        raise WorkflowError(
            f'{card.id}: [model.wire] needs workflow = "file.json"',
            f'{card.id}: [model.wire] に workflow = "ファイル名.json" が必要です。',
        )
    path = _find(card, name, [*folders, SHIPPED])
    graph = _graph(path)
    inputs = card.wire.get("inputs", {})
    if not isinstance(inputs, dict):
        raise WorkflowError(
            f'{card.id}: [model.wire.inputs] is a table of ours = "node.input"',
            f'{card.id}: [model.wire.inputs] は 名前 = "ノード.入力" の表で書いてください。',
        )
    known = {*MEDIA, *PLAIN, *card.options}
    for ours in sorted(set(inputs) - known):
        raise WorkflowError(
            f"{card.id}: wire.inputs has an unknown name {ours}; known: {', '.join(sorted(known))}",
            f"{card.id}: wire.inputs の {ours} は未知の名前です。使えるもの: {', '.join(sorted(known))}",
        )
    places = {ours: tuple(_places(path.name, graph, ours, theirs)) for ours, theirs in inputs.items()}
    for ours in _needed(card):
        if not places.get(ours):
            raise WorkflowError(
                f"{card.id}: the card takes {ours}, but wire.inputs gives it no place in {path.name}",
                f"{card.id}: このモデルは {ours} を受け付けますが、wire.inputs に {path.name} 内の場所がありません。",
            )
    output = card.wire.get("output")
    return Workflow(graph, places, _node(path.name, graph, str(output)) if output is not None else None)


def frames_of(card: ModelCard, duration: float, fps: int) -> int:
    """Frames of a clip of that many seconds, by the card's `frame_rule`: the nearest k * first + second."""
    step, offset = (int(part) for part in card.wire.get("frame_rule", (1, 0)))
    return max(round((duration * fps - offset) / step), 0 if offset else 1) * step + offset


def _needed(card: ModelCard) -> Iterator[str]:
    """Names without which the card would promise what the workflow cannot be told."""
    if card.prompt_max != 0:
        yield "prompt"
    for name in ("negative_prompt", "seed", "guidance", "last_frame"):
        if getattr(card, name):
            yield name
    if Task.IMAGE_TO_VIDEO in card.tasks:
        yield "first_frame"
    if card.sizes:
        yield from ("width", "height")
    if len(card.fps) > 1:
        yield "fps"
    if len(card.durations) > 1 or card.duration_range:
        yield "duration" if "duration" in card.wire.get("inputs", {}) else "frames"
    if card.audio == "optional":
        yield "generate_audio"
    yield from card.references
    yield from card.options


def _find(card: ModelCard, name: str, folders: Sequence[Path]) -> Path:
    given = Path(name).expanduser()
    for path in [given] if given.is_absolute() else [folder / given for folder in folders]:
        if path.is_file():
            return path
    where = str(given.parent) if given.is_absolute() else ", ".join(str(folder) for folder in folders[:-1])
    raise WorkflowError(
        f"{card.id}: there is no workflow file {given.name} in {where}; export it from ComfyUI in API format",
        f"{card.id}: ワークフローファイル {given.name} が {where} にありません。ComfyUI から API 形式で書き出してください。",
    )


def _graph(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        why = getattr(error, "strerror", None) or "no valid JSON"
        raise WorkflowError(
            f"the workflow {path} cannot be read ({why}); export it from ComfyUI again",
            f"ワークフロー {path} を読み込めません({why})。ComfyUI から書き出し直してください。",
        ) from None
    nodes = data if isinstance(data, dict) else {}
    if isinstance(nodes.get("nodes"), list):
        raise WorkflowError(
            f"the workflow {path.name} is in the editor's format; export it with Workflow > Export (API)",
            f"ワークフロー {path.name} は編集用の形式です。「ワークフロー > エクスポート (API)」で書き出してください。",
        )
    good = [n for n in nodes.values() if isinstance(n, dict) and isinstance(n.get("inputs"), dict)]
    if not nodes or len(good) != len(nodes) or not all(isinstance(n.get("class_type"), str) for n in good):
        raise WorkflowError(
            f"{path.name} is no ComfyUI workflow in API format; export it with Workflow > Export (API)",
            f"{path.name} は API 形式の ComfyUI ワークフローではありません。"
            "「ワークフロー > エクスポート (API)」で書き出してください。",
        )
    return nodes


def _places(file: str, graph: Mapping[str, Any], ours: str, theirs: Any) -> Iterator[Place]:
    for target in theirs if isinstance(theirs, list) else [theirs]:
        if not isinstance(target, str) or "." not in target.strip("."):
            raise WorkflowError(
                f'wire.inputs.{ours}: write "node.input", for example "6.text", not {target!r}',
                f'wire.inputs.{ours}: {target!r} ではなく "6.text" のように "ノード.入力" と書いてください。',
            )
        yield _place(file, graph, ours, target)


def _place(file: str, graph: Mapping[str, Any], ours: str, target: str) -> Place:
    """Titles and input names may both have dots in them: the first cut that names a node decides."""
    parts = target.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        name, field = ".".join(parts[:cut]), ".".join(parts[cut:])
        if name not in graph and not _titled(graph, name):
            continue
        node = _node(file, graph, name)
        inputs = graph[node]["inputs"]
        if field not in inputs:
            has = ", ".join(sorted(inputs))
            raise WorkflowError(
                f"wire.inputs.{ours}: node {name!r} of {file} has no input {field!r}; it has: {has}",
                f"wire.inputs.{ours}: {file} のノード {name!r} に入力 {field!r} がありません。ある入力: {has}",
            )
        if isinstance(inputs[field], list):
            raise WorkflowError(
                f"wire.inputs.{ours}: input {field!r} of node {name!r} is wired to another node in {file}; "
                "name the node where the value is typed in",
                f"wire.inputs.{ours}: {file} のノード {name!r} の入力 {field!r} は別のノードに接続されています。"
                "値を直接入力するノードを指定してください。",
            )
        return node, field
    raise _no_node(file, parts[0], graph)


def _titled(graph: Mapping[str, Any], title: str) -> list[str]:
    return [id_ for id_, node in graph.items() if (node.get("_meta") or {}).get("title") == title]


def _node(file: str, graph: Mapping[str, Any], name: str) -> str:
    """The id of the node of that id or title."""
    if name in graph:
        return name
    found = _titled(graph, name)
    if not found:
        raise _no_node(file, name, graph)
    if len(found) > 1:
        raise WorkflowError(
            f"{file} has {len(found)} nodes with the title {name!r} ({', '.join(found)}); name one by its number",
            f"{file} にはタイトル {name!r} のノードが {len(found)} 個あります({', '.join(found)})。番号で指定してください。",
        )
    return found[0]


def _no_node(file: str, name: str, graph: Mapping[str, Any]) -> WorkflowError:
    has = ", ".join(
        f"{id_} ({(node.get('_meta') or {}).get('title') or node['class_type']})"
        for id_, node in graph.items()
    )
    return WorkflowError(
        f"{file} has no node {name!r}; it has: {has}",
        f"{file} にノード {name!r} がありません。あるノード: {has}",
    )


def _take_out(graph: dict[str, Any], node: str) -> None:
    """Remove a node, the wires from it, and what was fed by nothing else; an input it was optional for stays empty."""
    graph.pop(node, None)
    for id_, other in list(graph.items()):
        wires = {field for field, value in other["inputs"].items() if isinstance(value, list)}
        cut = {field for field in wires if str(other["inputs"][field][0]) == node}
        for field in cut:
            del other["inputs"][field]
        if cut and cut == wires:
            _take_out(graph, id_)
