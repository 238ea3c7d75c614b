"""What fal's video models take and cost: the twin's own reading, kept apart from the client's data file.

Field names and prices as the model pages show them (docs snapshot 2026); where a price is not public the twin bills
`STAND_IN_USD` per second, so that the model can be rehearsed at all. Unknown input keys are ignored, as fal's models do.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from api_providers.sandbox._fields import Field, one_of, schema_of

STAND_IN_USD = Decimal("0.10")
Price = Callable[[dict[str, Any], Decimal], Decimal]
"""What an input with defaults filled in costs, for a clip of so many seconds, in USD."""


@dataclass(frozen=True)
class Model:
    """One endpoint: its fields, its price, and the length of the clip where the input has no duration."""

    fields: dict[str, Field]
    price: Price
    seconds: float = 8


PROMPT = Field(required=True, longest=20_000)
MAYBE_PROMPT = Field(longest=2500)
URL = Field("url", required=True)
MAYBE_URL = Field("url")
SEED = Field("whole", low=0)
SMALL_SEED = Field("whole", low=0, high=2147483647)
ON = Field("flag", default=True)
OFF = Field("flag", default=False)
RATIO = {"aspect_ratio": one_of("16:9", "9:16", "1:1")}


def _flat(usd: str | Decimal = STAND_IN_USD) -> Price:
    return lambda body, seconds: Decimal(usd) * seconds


def _by(key: str, **rates: str) -> Price:
    """Per second, by the value of one field, in lower case; `_720p` for names that begin with a digit."""
    table = {name.removeprefix("_"): Decimal(usd) for name, usd in rates.items()}
    return lambda body, seconds: table[str(body[key]).lower()] * seconds


def _audio(silent: str, loud: str) -> Price:
    return lambda body, seconds: Decimal(loud if body["generate_audio"] else silent) * seconds


def _clip(usd: str, long_usd: str | None = None) -> Price:
    return lambda body, seconds: Decimal(long_usd if long_usd and seconds > 6 else usd)


def _veo(rates: Mapping[str, tuple[str, str]]) -> Price:
    """By resolution: without and with sound."""

    def price(body: dict[str, Any], seconds: Decimal) -> Decimal:
        return Decimal(rates[body["resolution"]][body["generate_audio"]]) * seconds

    return price


_LENGTH_3_15 = {"duration": one_of("5", *(str(n) for n in range(3, 16) if n != 5))}
_LENGTH_5_10 = {"duration": one_of("5", "10")}
_NEGATIVE = {"negative_prompt": Field(default="blur, distort, and low quality")}
_CFG = {"cfg_scale": Field("number", default=0.5, low=0, high=1)}
_END = {"end_image_url": MAYBE_URL}


def _pair(
    base: str,
    common: dict[str, Field],
    price: Price,
    *,
    text: dict[str, Field] | None,
    image: dict[str, Field],
    seconds: float = 5,
    suffix: str = "",
) -> dict[str, Model]:
    """The text and the image endpoint of a model; `text` None where it has only the second."""
    found = {f"{base}/image-to-video{suffix}": Model({**common, **image}, price, seconds)}
    if text is not None:
        found[f"{base}/text-to-video{suffix}"] = Model({**common, **text}, price, seconds)
    return found


def _kling() -> dict[str, Model]:
    base = "fal-ai/kling-video"
    old = {"prompt": PROMPT, **_LENGTH_5_10, **_NEGATIVE, **_CFG}
    loud = {"prompt": PROMPT, **_LENGTH_5_10, **_NEGATIVE, "generate_audio": ON}
    three = {"prompt": MAYBE_PROMPT, **_LENGTH_3_15, **_NEGATIVE, **_CFG, "generate_audio": ON}
    turbo = {"prompt": MAYBE_PROMPT, **_LENGTH_3_15}
    start = {"start_image_url": URL}
    return {
        **_pair(
            f"{base}/v2.5-turbo/pro",
            old,
            _flat("0.07"),
            text=RATIO,
            image={"image_url": URL, "tail_image_url": MAYBE_URL},
        ),
        **_pair(f"{base}/v2.5-turbo/standard", old, _flat("0.042"), text=None, image={"image_url": URL}),
        **_pair(f"{base}/v2.6/pro", loud, _audio("0.07", "0.14"), text=RATIO, image=start),
        **_pair(f"{base}/v3/pro", three, _audio("0.112", "0.168"), text=RATIO, image={**start, **_END}),
        **_pair(f"{base}/v3/standard", three, _audio("0.084", "0.126"), text=RATIO, image={**start, **_END}),
        **_pair(f"{base}/v3/turbo/pro", turbo, _flat("0.14"), text=RATIO, image={"image_url": URL}),
        **_pair(f"{base}/v3/turbo/standard", turbo, _flat("0.112"), text=RATIO, image={"image_url": URL}),
    }


def _veo_models() -> dict[str, Model]:
    found: dict[str, Model] = {}
    tables = {
        "": {"720p": ("0.20", "0.40"), "1080p": ("0.20", "0.40"), "4k": ("0.40", "0.60")},
        "/fast": {"720p": ("0.10", "0.15"), "1080p": ("0.10", "0.15"), "4k": ("0.30", "0.35")},
        "/lite": {"720p": ("0.03", "0.05"), "1080p": ("0.05", "0.08")},
    }
    for path, rates in tables.items():
        base, price = f"fal-ai/veo3.1{path}", _veo(rates)
        common = {
            "prompt": PROMPT,
            "resolution": one_of(*rates),
            "generate_audio": ON,
            "negative_prompt": Field(),
            "seed": SEED,
            "auto_fix": OFF,
        }
        text = {**common, "duration": one_of("8s", "6s", "4s"), "aspect_ratio": one_of("16:9", "9:16")}
        image = {**text, "aspect_ratio": one_of("auto", "16:9", "9:16")}
        found[base] = Model(text, price)
        found[f"{base}/image-to-video"] = Model({**image, "image_url": URL}, price)
        found[f"{base}/first-last-frame-to-video"] = Model(
            {**image, "first_frame_url": URL, "last_frame_url": URL}, price
        )
        if path != "/lite":
            found[f"{base}/extend-video"] = Model(
                {**image, "duration": one_of("7s"), "video_url": URL}, price, 7
            )
        if not path:
            found[f"{base}/reference-to-video"] = Model(
                {**common, "duration": one_of("8s"), "image_urls": Field("urls", required=True, longest=3)},
                price,
            )
    return found


def _wan() -> dict[str, Model]:
    ratio = {"aspect_ratio": one_of("16:9", "9:16", "1:1", "4:3", "3:4")}
    old = {
        "prompt": Field(required=True, longest=800),
        "resolution": one_of("1080p", "720p"),
        "duration": one_of("5", "10", "15"),
        "negative_prompt": Field(longest=500),
        "seed": SMALL_SEED,
        "enable_prompt_expansion": ON,
    }
    new = {
        "prompt": Field(longest=5000),
        "resolution": one_of("1080p", "720p"),
        "duration": Field("whole", default=5, low=2, high=15),
        "negative_prompt": Field(longest=500),
        "seed": SMALL_SEED,
        "enable_prompt_expansion": ON,
        "audio_url": MAYBE_URL,
    }
    three = {
        "prompt": PROMPT,
        "duration": Field("whole", default=5, low=2, high=15),
        "seed": SMALL_SEED,
        "resolution": one_of("1080p", "720p", "480p"),
    }
    image = {"image_url": URL}
    return {
        **_pair("wan/v2.6", old, _flat(), text=ratio, image=image),
        **_pair(
            "wan/v2.6",
            old,
            _by("resolution", _720p="0.05", _1080p="0.075"),
            text=None,
            image=image,
            suffix="/flash",
        ),
        **_pair(
            "fal-ai/wan/v2.7",
            new,
            _by("resolution", _720p="0.10", _1080p="0.15"),
            text={**ratio, "prompt": Field(required=True, longest=5000)},
            image={"image_url": MAYBE_URL, **_END, "video_url": MAYBE_URL},
        ),
        **_pair(
            "alibaba/wan-3.0",
            three,
            _by("resolution", _480p="0.05", _720p="0.10", _1080p="0.20"),
            text=None,
            image=image,
        ),
    }


def _minimax() -> dict[str, Model]:
    base, plain = "fal-ai/minimax", {"prompt": PROMPT, "prompt_optimizer": ON}
    timed, image = {**plain, "duration": one_of("6", "10")}, {"image_url": URL}
    h3 = {
        "prompt": Field(required=True, longest=50_000),
        "duration": Field("whole", default=5, low=5, high=15),
        "resolution": one_of("2K", "480P", "768P", "4K"),
        "seed": SEED,
    }
    h3_ratio = {"aspect_ratio": one_of("16:9", "adaptive", "21:9", "4:3", "1:1", "3:4", "9:16")}
    h3_price = _by("resolution", _480p="0.05", _768p="0.06", _2k="0.13", _4k="0.16")
    return {
        **_pair(f"{base}/hailuo-2.3/standard", timed, _clip("0.28", "0.56"), text={}, image=image, seconds=6),
        **_pair(f"{base}/hailuo-2.3/pro", plain, _clip("0.49"), text={}, image=image, seconds=6),
        **_pair(f"{base}/hailuo-2.3-fast/standard", timed, _clip("0.19", "0.32"), text=None, image=image),
        **_pair(f"{base}/hailuo-2.3-fast/pro", plain, _clip("0.33"), text=None, image=image, seconds=6),
        **_pair(
            f"{base}/hailuo-02/standard",
            {**timed, "resolution": one_of("768P", "512P")},
            _by("resolution", _768p="0.045", _512p="0.017"),
            text=None,
            image={**image, **_END},
        ),
        **_pair("minimax/h3", h3, h3_price, text=h3_ratio, image={**image, **_END}),
        "minimax/h3/reference-to-video": Model(
            {**h3, **h3_ratio, "reference_image_urls": Field("urls", required=True, longest=9)}, h3_price, 5
        ),
    }


def _others() -> dict[str, Model]:
    ltx = {
        "prompt": PROMPT,
        "resolution": one_of("1080p", "1440p", "2160p"),
        "fps": one_of(25, 24, 48, 50),
        "aspect_ratio": one_of("16:9", "9:16"),
        "generate_audio": ON,
    }
    ends = {"image_url": URL, **_END}
    short, long = {"duration": one_of(6, 8, 10)}, {"duration": one_of(6, 8, 10, 12, 14, 16, 18, 20)}
    text_rate = _by("resolution", _1080p="0.08", _1440p="0.16", _2160p="0.32")
    image_rate = _by("resolution", _1080p="0.06", _1440p="0.12", _2160p="0.24")
    fast_rate = _by("resolution", _1080p="0.04", _1440p="0.08", _2160p="0.16")
    seedance = {
        "prompt": PROMPT,
        "resolution": one_of("720p", "480p", "1080p"),
        "duration": one_of("auto", *(str(n) for n in range(4, 16))),
        "aspect_ratio": one_of("auto", "21:9", "16:9", "4:3", "1:1", "3:4", "9:16"),
        "generate_audio": ON,
        "seed": SEED,
    }
    quick = {**seedance, "resolution": one_of("720p", "480p")}
    luma = {
        "prompt": PROMPT,
        "aspect_ratio": one_of("16:9", "9:16", "4:3", "3:4", "21:9", "9:21"),
        "resolution": one_of("540p", "720p", "1080p"),
        "duration": one_of("5s", "9s"),
        "loop": OFF,
    }
    omni = {
        "prompt": PROMPT,
        "duration": Field("whole", default=8, low=3, high=10),
        "aspect_ratio": one_of("16:9", "9:16"),
    }
    return {
        "fal-ai/ltx-2.3/text-to-video": Model({**ltx, **short}, text_rate),
        "fal-ai/ltx-2.3/image-to-video": Model({**ltx, **short, **ends}, image_rate),
        "fal-ai/ltx-2.3/text-to-video/fast": Model({**ltx, **long}, fast_rate),
        "fal-ai/ltx-2.3/image-to-video/fast": Model({**ltx, **short, **ends}, fast_rate),
        # 480p is billed by tokens; a stand-in, as are its pixels.
        **_pair(
            "bytedance/seedance-2.0",
            seedance,
            _by("resolution", _480p="0.14", _720p="0.3034", _1080p="0.682"),
            text={},
            image=ends,
        ),
        **_pair(
            "bytedance/seedance-2.0/fast",
            quick,
            _by("resolution", _480p="0.11", _720p="0.2419"),
            text={},
            image=ends,
        ),
        "google/gemini-omni-flash/v1.1/text-to-video": Model(omni, _flat()),
        "fal-ai/luma-dream-machine/ray-2": Model(luma, _flat(), 5),
        "fal-ai/luma-dream-machine/ray-2/image-to-video": Model(
            {**luma, "image_url": MAYBE_URL, **_END}, _flat(), 5
        ),
        "fal-ai/topaz/upscale/video": Model(
            {"video_url": URL, "upscale_factor": Field("number", default=2, low=1, high=4)}, _flat(), 5
        ),
        "fal-ai/sync-lipsync/v2": Model({"video_url": URL, "audio_url": URL}, _flat(), 5),
    }


MODELS: dict[str, Model] = {**_kling(), **_veo_models(), **_wan(), **_minimax(), **_others()}


def clip_seconds(model: Model, body: dict[str, Any]) -> float:
    """The length of the result for an input with defaults filled in."""
    text = str(body.get("duration", "")).removesuffix("s")
    return float(text) if text.isdecimal() else model.seconds


def openapi(name: str, model: Model) -> dict[str, Any]:
    """The document that fal.ai publishes of an endpoint."""
    title = "".join(part.title() for part in name.replace("-", "/").replace(".", "").split("/")) + "Input"
    body = {"content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{title}"}}}}
    status = {"get": {"responses": {"200": {"description": "The request status."}}}}
    return {
        "openapi": "3.0.4",
        "info": {"title": f"Queue OpenAPI for {name}", "version": "1.0.0"},
        "components": {"schemas": {title: schema_of(model.fields, nullable="anyOf") | {"title": title}}},
        "paths": {
            f"/{name}/requests/{{request_id}}/status": status,
            f"/{name}/requests/{{request_id}}/cancel": {"put": status["get"]},
            f"/{name}": {"post": {"requestBody": {"required": True, **body}}},
            f"/{name}/requests/{{request_id}}": status,
        },
    }
