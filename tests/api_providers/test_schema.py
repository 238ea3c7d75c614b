"""What is read out of published model schemas, and what becomes of a request by them."""

from typing import Any

import pytest

from api_providers._schema import KEPT_S, InputSchema, Shelf, read_schema
from api_providers._schema_payload import live_payload
from api_providers._schema_row import card_row
from router.catalog.rows import card_of
from router.contract import errors
from router.contract.card import InputMedia, ModelCard, ResolvedRequest
from tests.api_providers.conftest import FolderMedia, Resolve

PROMPT = {"type": "string"}
URI = {"type": "string", "format": "uri"}


def schema(required: tuple[str, ...] = (), **properties: Any) -> InputSchema:
    found = read_schema(
        {"components": {"schemas": {"Input": {"required": list(required), "properties": properties}}}}
    )
    assert found is not None
    return found


def row(found: InputSchema) -> dict[str, Any]:
    return dict(card_row(found, backend="fal", wire_id="fal-ai/x/y", source="s", as_of="2026-11-26"))


@pytest.mark.parametrize(
    ("properties", "ours", "theirs"),
    [
        ({"image_url": URI}, "first_frame", "image_url"),
        ({"image": URI, "start_image": URI}, "first_frame", "start_image"),
        ({"start_image_url": URI}, "first_frame", "start_image_url"),
        ({"first_frame_image": URI}, "first_frame", "first_frame_image"),
        ({"first_frame_url": URI}, "first_frame", "first_frame_url"),
        ({"end_image_url": URI}, "last_frame", "end_image_url"),
        ({"last_frame_url": URI}, "last_frame", "last_frame_url"),
        ({"tail_image_url": URI}, "last_frame", "tail_image_url"),
        ({"end_image": URI}, "last_frame", "end_image"),
        ({"last_frame": URI}, "last_frame", "last_frame"),
        ({"last_frame_image": URI}, "last_frame", "last_frame_image"),
        ({"image_urls": {"type": "array", "items": URI}}, "images", "image_urls"),
        ({"audio": URI}, "audio", "audio"),
        ({"audio": {"type": "boolean"}}, "generate_audio", "audio"),
        ({"audio": URI}, "generate_audio", None),
        ({"audio": {"type": "boolean"}}, "audio", None),
        ({"cfg_scale": {"type": "number"}}, "guidance", "cfg_scale"),
        ({"colour": PROMPT}, "seed", None),
    ],
)
def test_our_fields_are_found_under_their_names(
    properties: dict[str, Any], ours: str, theirs: str | None
) -> None:
    found = schema(**properties).theirs(ours)
    assert (found.name if found else None) == theirs


def test_references_all_of_and_null_variants_are_followed() -> None:
    document = {
        "components": {
            "schemas": {
                "duration": {"enum": [5, 10], "type": "integer", "title": "duration"},
                "Thing": {
                    "required": ["prompt"],
                    "properties": {
                        "prompt": PROMPT,
                        "duration": {"allOf": [{"$ref": "#/components/schemas/duration"}], "default": 5},
                        "seed": {"anyOf": [{"type": "integer", "maximum": 9}, {"type": "null"}]},
                        "image_url": {"type": ["string", "null"]},
                    },
                },
            }
        },
        "paths": {
            "/x/requests/{id}": {"get": {}},
            "/x": {
                "post": {
                    "requestBody": {
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}
                    }
                }
            },
        },
    }
    found = read_schema(document)
    assert found is not None
    fields = found.fields
    assert (fields["duration"].choices, fields["duration"].default) == ((5, 10), 5)
    assert (fields["seed"].kind, fields["seed"].high) == ("integer", 9)
    assert (fields["image_url"].kind, fields["prompt"].must_be_given) == ("string", True)


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "x",
        {},
        {"paths": {"/x": {"post": 7}}},
        {"components": {"schemas": {"Input": {"properties": []}}}},
        {"components": {"schemas": {"Input": {"$ref": "#/components/schemas/Input"}}}},
    ],
)
def test_what_is_no_schema_is_none(document: Any) -> None:
    assert read_schema(document) is None


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ({"enum": ["5", "10"], "default": "10"}, {"durations": [10, 5]}),
        ({"enum": ["4s", "8s"], "default": "8s"}, {"durations": [8, 4]}),
        ({"enum": [6, 8]}, {"durations": [6, 8]}),
        ({"enum": ["auto", "4", "5"], "default": "auto"}, {"durations": [4, 5]}),
        (
            {"type": "integer", "minimum": 2, "maximum": 15, "default": 5},
            {"durations": [5], "duration_range": [2, 15, 1]},
        ),
        ({"type": "integer", "default": 5}, {"durations": [5]}),
        ({"type": "string"}, {}),
    ],
)
def test_lengths_become_what_a_card_says(field: dict[str, Any], expected: dict[str, Any]) -> None:
    made = row(schema(prompt=PROMPT, duration=field))
    assert {key: made[key] for key in ("durations", "duration_range") if key in made} == expected


def test_shapes_keep_the_models_default_first_and_what_follows_the_image_last() -> None:
    made = row(
        schema(
            prompt=PROMPT,
            image_url=URI,
            resolution={"enum": ["480P", "2K", "auto"], "default": "2K"},
            aspect_ratio={"enum": ["auto", "16:9", "9:16"], "default": "auto"},
        )
    )
    assert (made["resolutions"], made["aspect_ratios"]) == (["2k", "480p"], ["16:9", "9:16", "auto"])
    assert "aspect_from_image" not in made


@pytest.mark.parametrize(
    ("required", "properties", "tasks"),
    [
        (("prompt",), {"prompt": PROMPT}, ["text-to-video"]),
        (("prompt",), {"prompt": PROMPT, "image": URI}, ["text-to-video", "image-to-video"]),
        (("prompt", "image"), {"prompt": PROMPT, "image": URI}, ["image-to-video"]),
        (("video",), {"video": URI, "prompt": PROMPT}, ["video-to-video"]),
        (("video", "audio"), {"video": URI, "audio": URI}, ["lip-sync"]),
        (("image", "audio"), {"image": URI, "audio": URI}, ["avatar"]),
    ],
)
def test_the_inputs_say_the_task(
    required: tuple[str, ...], properties: dict[str, Any], tasks: list[str]
) -> None:
    assert row(schema(required, **properties))["tasks"] == tasks


def test_a_row_is_one_the_catalogue_takes(catalog: Any) -> None:
    made = row(
        schema(
            ("prompt", "reference_images"),
            prompt={"type": "string", "maxLength": 800},
            reference_images={"type": "array", "items": URI, "maxItems": 3},
            negative_prompt=PROMPT,
            seed={"type": "integer"},
            fps={"enum": [25, 24], "default": 24},
            generate_audio={"type": "boolean", "default": True},
        )
    )
    card = card_of(made, catalog.providers["fal"])
    assert (card.id, card.prompt_max, card.fps) == ("fal/x/y", 800, (24, 25))
    assert (card.references, card.needs, card.audio, card.prices) == (
        {"image": 3},
        ("image",),
        "optional",
        (),
    )


def test_a_model_that_makes_no_clip_gives_no_row() -> None:
    with pytest.raises(errors.UnsupportedRequest):
        row(schema(("text",), text=PROMPT))


async def placed(media: InputMedia) -> str:
    return f"placed:{media.asset.mime}"


def live(request: ResolvedRequest, **card: Any) -> tuple[ResolvedRequest, ModelCard]:
    made = ModelCard.model_validate(
        {
            "id": "fal/live",
            "backend": "fal",
            "wire_id": "live",
            "family": "live",
            "tasks": ["text-to-video", "image-to-video"],
            "as_of": "2026-11-26",
            "source": "mine",
            "wire": {"schema": "live"},
            "durations": [5, 10],
            **card,
        }
    )
    return request.model_copy(update={"model": made.id}), made


@pytest.mark.parametrize(
    ("field", "sent"),
    [
        ({"enum": ["5", "10"]}, "5"),
        ({"enum": ["5s", "10s"]}, "5s"),
        ({"enum": [5, 10]}, 5),
        ({"type": "integer", "minimum": 3, "maximum": 12}, 5),
        ({"type": "number"}, 5.0),
        ({"type": "string", "default": "8s"}, "5s"),
        ({"type": "string", "default": "8"}, "5"),
    ],
)
async def test_a_length_is_sent_in_the_models_own_form(
    resolve: Resolve, field: dict[str, Any], sent: Any
) -> None:
    request, card = live(resolve("fal/kling-2.6-pro"))
    body, _ = await live_payload(schema(("prompt",), prompt=PROMPT, duration=field), request, card, placed)
    assert body["duration"] == sent
    assert type(body["duration"]) is type(sent)


async def test_sound_is_always_said_where_the_model_can_make_it(resolve: Resolve) -> None:
    request, card = live(resolve("fal/kling-2.6-pro"))
    found = schema(prompt=PROMPT, duration={"enum": [5]}, generate_audio={"type": "boolean", "default": True})
    body, _ = await live_payload(found, request, card, placed)
    assert body["generate_audio"] is False


async def test_spelling_of_choices_is_the_models_own(resolve: Resolve) -> None:
    request, card = live(resolve("fal/veo3.1", resolution="4k"), resolutions=["720p", "4k"])
    found = schema(prompt=PROMPT, duration={"enum": [8]}, resolution={"enum": ["720P", "2160p"]})
    body, _ = await live_payload(found, request, card, placed)
    assert body["resolution"] == "2160p"


async def test_every_misfit_is_told_at_once_and_nothing_is_placed(
    resolve: Resolve, media: FolderMedia
) -> None:
    async def never(one: InputMedia) -> str:
        raise AssertionError("an input was placed although the request does not fit")

    asked = resolve(
        "fal/veo3.1",
        first=media.picture(),
        last=media.picture(colour="red"),
        negative_prompt="rain",
        generate_audio=True,
    )
    request, card = live(asked, durations=[8, 4], resolutions=["720p", "1080p"], seed=True)
    found = schema(("prompt", "style"), prompt={"type": "string", "maxLength": 3}, image=URI, style=PROMPT)
    with pytest.raises(errors.UnsupportedRequest) as caught:
        await live_payload(found, request, card, never)
    assert {misfit.field for misfit in caught.value.misfits} == {
        *("prompt", "negative_prompt", "last_frame", "duration", "resolution", "generate_audio", "style"),
    }
    assert "style" in caught.value.message.en and "style" in caught.value.message.ja


async def test_frames_and_references_are_placed_under_their_names(
    resolve: Resolve, media: FolderMedia
) -> None:
    asked = resolve("fal/veo3.1-reference", references=[media.picture(), media.picture(colour="red")])
    request, card = live(asked)
    found = schema(("image_urls",), prompt=PROMPT, image_urls={"type": "array", "maxItems": 3})
    body, _ = await live_payload(found, request.model_copy(update={"duration": 0.0}), card, placed)
    assert body == {"prompt": "a red fox in the snow", "image_urls": ["placed:image/png"] * 2}
    few = schema(prompt=PROMPT, image_urls={"type": "array", "maxItems": 1})
    with pytest.raises(errors.UnsupportedRequest, match="at most 1"):
        await live_payload(few, request, card, placed)


async def test_a_seed_the_model_cannot_take_is_told(resolve: Resolve) -> None:
    request, card = live(resolve("fal/veo3.1", seed=2**32 - 1), durations=[8], seed=True)
    small = schema(prompt=PROMPT, seed={"type": "integer", "maximum": 999})
    body, (warning,) = await live_payload(small, request, card, placed)
    assert body["seed"] == (2**32 - 1) % 1000
    assert "4294967295" in warning.en and str(body["seed"]) in warning.ja
    body, (warning,) = await live_payload(schema(prompt=PROMPT), request, card, placed)
    assert "seed" not in body and "not used" in warning.en


@pytest.mark.parametrize(
    ("options", "good"),
    [({"style": "b"}, True), ({"style": "z"}, False), ({"duration": 10}, False), ({"more": 1}, False)],
)
async def test_options_may_name_only_inputs_that_the_request_does_not_decide(
    resolve: Resolve, options: dict[str, Any], good: bool
) -> None:
    request, card = live(resolve("fal/kling-2.6-pro").model_copy(update={"options": options}))
    found = schema(prompt=PROMPT, duration={"enum": [5, 10]}, style={"enum": ["a", "b"]})
    if good:
        body, _ = await live_payload(found, request, card, placed)
        assert body["style"] == "b"
        return
    with pytest.raises(errors.UnsupportedRequest) as caught:
        await live_payload(found, request, card, placed)
    assert caught.value.misfits[0].field == f"provider_options.fal.{next(iter(options))}"


async def test_a_schema_is_read_again_after_an_hour() -> None:
    now, reads = [0.0], []

    async def read() -> InputSchema:
        reads.append(now[0])
        return schema(prompt=PROMPT)

    shelf = Shelf(lambda: now[0])
    for now[0] in (0.0, KEPT_S, KEPT_S + 1):
        await shelf.of("x", read)
    assert reads == [0.0, KEPT_S + 1]
