"""What ComfyUI's `/prompt` checks in a graph, for the nodes of a Wan clip, and what the clip will be.

Source: Comfy-Org/ComfyUI execution.py (validate_prompt, validate_inputs) and comfy_extras/nodes_wan.py, 2026-11.
"""

from collections.abc import Container, Iterator
from typing import Any, NamedTuple

from api_providers.sandbox._bench import Clip

MODELS = {
    "unet_name": ("wan2.2_ti2v_5B_fp16.safetensors",),
    "clip_name": ("umt5_xxl_fp8_e4m3fn_scaled.safetensors",),
    "vae_name": ("wan2.2_vae.safetensors",),
}
INT, FLOAT, STRING, FILE, CHOICE = "INT", "FLOAT", "STRING", "FILE", "CHOICE"


class _Class(NamedTuple):
    """A node class: required and optional inputs by type (an upper-case data type is a wire), and what it gives."""

    required: dict[str, str]
    optional: dict[str, str]
    gives: tuple[str, ...]
    output: bool = False


CLASSES = {
    "UNETLoader": _Class({"unet_name": CHOICE, "weight_dtype": STRING}, {}, ("MODEL",)),
    "CLIPLoader": _Class({"clip_name": CHOICE, "type": STRING}, {"device": STRING}, ("CLIP",)),
    "VAELoader": _Class({"vae_name": CHOICE}, {}, ("VAE",)),
    "ModelSamplingSD3": _Class({"model": "MODEL", "shift": FLOAT}, {}, ("MODEL",)),
    "CLIPTextEncode": _Class({"clip": "CLIP", "text": STRING}, {}, ("CONDITIONING",)),
    "LoadImage": _Class({"image": FILE}, {}, ("IMAGE", "MASK")),
    "ImageScale": _Class(
        {"image": "IMAGE", "width": INT, "height": INT, "upscale_method": STRING, "crop": STRING},
        {},
        ("IMAGE",),
    ),
    "Wan22ImageToVideoLatent": _Class(
        {"vae": "VAE", "width": INT, "height": INT, "length": INT, "batch_size": INT},
        {"start_image": "IMAGE"},
        ("LATENT",),
    ),
    "KSampler": _Class(
        {
            "model": "MODEL",
            "positive": "CONDITIONING",
            "negative": "CONDITIONING",
            "latent_image": "LATENT",
            "seed": INT,
            "steps": INT,
            "cfg": FLOAT,
            "sampler_name": STRING,
            "scheduler": STRING,
            "denoise": FLOAT,
        },
        {},
        ("LATENT",),
    ),
    "VAEDecode": _Class({"samples": "LATENT", "vae": "VAE"}, {}, ("IMAGE",)),
    "CreateVideo": _Class({"images": "IMAGE", "fps": FLOAT}, {"audio": "AUDIO"}, ("VIDEO",)),
    "SaveVideo": _Class(
        {"video": "VIDEO", "filename_prefix": STRING, "format": STRING, "codec": STRING}, {}, (), True
    ),
    "SaveImage": _Class({"images": "IMAGE", "filename_prefix": STRING}, {}, (), True),
}
LOWEST = {"width": 32, "height": 32, "length": 1, "batch_size": 1, "steps": 1, "fps": 1, "seed": 0}
HIGHEST = {"width": 16384, "height": 16384, "length": 16384, "steps": 10000, "cfg": 100, "seed": 2**64 - 1}


class WrongGraph(Exception):
    """The body of a 400."""

    def __init__(self, body: dict[str, Any]) -> None:
        """`body` as the server words it."""
        super().__init__(str(body))
        self.body = body


def validate(graph: Any, uploads: Container[str]) -> tuple[list[str], dict[str, Any]]:
    """Ids of the output nodes that can run, and what is wrong with the others."""
    if not isinstance(graph, dict):
        raise WrongGraph(error_body("no_prompt", "No prompt provided", "No prompt provided"))
    for id_, node in graph.items():
        kind = node.get("class_type") if isinstance(node, dict) else None
        if kind not in CLASSES:
            title = f"Node ID '#{id_}'"
            said = f"Node '{title}' not found. The custom node may not be installed."
            raise WrongGraph(error_body("missing_node_type", said, title))
    ends = [id_ for id_, node in graph.items() if CLASSES[node["class_type"]].output]
    if not ends:
        raise WrongGraph(error_body("prompt_no_outputs", "Prompt has no outputs", ""))
    good, findings = [], {}
    for end in ends:
        wrong = {id_: found for id_ in _upstream(graph, end) if (found := list(_wrong(graph, id_, uploads)))}
        for id_, found in wrong.items():
            findings[id_] = {
                "errors": found,
                "dependent_outputs": [end],
                "class_type": graph[id_]["class_type"],
            }
        if not wrong:
            good.append(end)
    return good, findings


def _wrong(graph: dict[str, Any], id_: str, uploads: Container[str]) -> Iterator[dict[str, Any]]:
    node = graph[id_]
    kind, inputs = CLASSES[node["class_type"]], node.get("inputs", {})
    for name in kind.required.keys() - inputs.keys():
        yield _finding("required_input_missing", "Required input is missing", name, name)
    for name, type_ in {**kind.required, **kind.optional}.items():
        if name in inputs:
            yield from _wrong_value(graph, name, type_, inputs[name], uploads)


def _wrong_value(
    graph: dict[str, Any], name: str, type_: str, value: Any, uploads: Container[str]
) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        source = graph.get(str(value[0])) if len(value) == 2 else None
        if source is None:
            yield _finding("bad_linked_input", "Bad linked input, must be a length-2 list", name, name)
        elif type_ not in {INT, FLOAT, STRING, FILE, CHOICE}:
            gives = CLASSES[source["class_type"]].gives
            got = gives[value[1]] if value[1] < len(gives) else "nothing"
            if got != type_:
                said = f"{name}, received_type({got}) mismatch input_type({type_})"
                yield _finding("return_type_mismatch", "Return type mismatch", said, name)
        return
    if type_ in {INT, FLOAT}:
        yield from _wrong_number(name, type_, value)
    elif type_ == FILE and str(value) not in uploads:
        said = f"{name} - Invalid image file: {value}"
        yield _finding("custom_validation_failed", "Custom validation failed for node", said, name)
    elif type_ == CHOICE and value not in MODELS[name]:
        said = f"{name}: '{value}' not in {list(MODELS[name])}"
        yield _finding("value_not_in_list", "Value not in list", said, name)


def _wrong_number(name: str, type_: str, value: Any) -> Iterator[dict[str, Any]]:
    try:
        number = int(value) if type_ == INT else float(value)
    except (TypeError, ValueError):
        said = f"{name}, {value}, invalid literal"
        yield _finding(
            "invalid_input_type", f"Failed to convert an input value to a {type_} value", said, name
        )
        return
    if number < LOWEST.get(name, number):
        yield _finding(
            "value_smaller_than_min", f"Value {number} smaller than min of {LOWEST[name]}", name, name
        )
    if number > HIGHEST.get(name, number):
        yield _finding(
            "value_bigger_than_max", f"Value {number} bigger than max of {HIGHEST[name]}", name, name
        )


def _upstream(graph: dict[str, Any], id_: str) -> list[str]:
    """The node and everything that feeds it."""
    found, todo = [], [id_]
    while todo:
        one = todo.pop()
        if one in found or one not in graph:
            continue
        found.append(one)
        todo += [
            str(v[0]) for v in graph[one].get("inputs", {}).values() if isinstance(v, list) and len(v) == 2
        ]
    return found


def clip_of(graph: dict[str, Any]) -> Clip:
    """What the nodes say about size and length."""
    size: dict[str, Any] = next(
        (n["inputs"] for n in graph.values() if n["class_type"] == "Wan22ImageToVideoLatent"), {}
    )
    frames, fps = int(size.get("length", 49)), float(first(graph, "CreateVideo", "fps", 24.0))
    said = first(graph, "CLIPTextEncode", "text", "")
    return Clip(int(size.get("width", 1280)), int(size.get("height", 704)), frames / fps, str(said))


def file_of(graph: dict[str, Any], node: str, number: int) -> dict[str, str]:
    """Name and subfolder of the saved clip: `video/understudy` becomes `video` and `understudy_00001_.mp4`."""
    subfolder, _, prefix = str(graph[node]["inputs"].get("filename_prefix", "ComfyUI")).rpartition("/")
    return {"subfolder": subfolder, "file": f"{prefix}_{number + 1:05d}_.mp4"}


def first(graph: dict[str, Any], kind: str, name: str, default: Any) -> Any:
    """The typed-in value of that input at the first node of that class."""
    found = [n["inputs"][name] for n in graph.values() if n["class_type"] == kind and name in n["inputs"]]
    return found[0] if found and not isinstance(found[0], list) else default


def _finding(type_: str, message: str, details: str, name: str) -> dict[str, Any]:
    return {"type": type_, "message": message, "details": details, "extra_info": {"input_name": name}}


def error_body(type_: str, message: str, details: str) -> dict[str, Any]:
    """The body of a 400 without node errors."""
    error = {"type": type_, "message": message, "details": details, "extra_info": {}}
    return {"error": error, "node_errors": {}}


def invalid_body(findings: dict[str, Any]) -> dict[str, Any]:
    """The body of a 400 for a graph of which no output can run."""
    body = error_body("prompt_outputs_failed_validation", "Prompt outputs failed validation", "")
    return {**body, "node_errors": findings}
