"""A request fitted to a card: tables of what fits, what does not, and what is said about it."""

from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.contract.card import Asset, InputKey, InputMedia, LocalCard, ModelCard, ResolvedRequest, Size
from router.contract.errors import Misfit, UnsupportedRequest
from router.contract.fit import fit
from router.contract.movement import presets_of
from router.contract.request import CAMERA_PRESETS, FrameType, Quality, Task, VideoRequest
from router.contract.shape import proportion

DRAWN = 77


def card(**given: Any) -> ModelCard:
    base: dict[str, Any] = {
        "id": "acme/reel-2",
        "backend": "acme",
        "wire_id": "reel-2",
        "family": "reel-2",
        "tasks": ("text-to-video", "image-to-video"),
        "durations": (5, 10),
        "resolutions": ("720p", "1080p"),
        "aspect_ratios": ("16:9", "9:16", "1:1"),
        "as_of": date(2026, 11, 20),
        "source": "https://acme.example/docs",
    }
    return ModelCard.model_validate({**base, **given})


LOCAL = LocalCard(
    licence="Apache-2.0",
    pipeline="local_models.wan",
    frame_rule=(4, 1),
    size_multiple=16,
    native_frames=81,
    max_frames=121,
    steps=30,
    guidance=5.0,
)
WAN_SIZES = (
    Size(resolution="480p", aspect_ratio="16:9", width=832, height=480),
    Size(resolution="480p", aspect_ratio="9:16", width=480, height=832),
)


def local_card(**given: Any) -> ModelCard:
    base: dict[str, Any] = {
        "id": "local/wan",
        "backend": "local",
        "durations": (),
        "resolutions": (),
        "aspect_ratios": (),
        "sizes": WAN_SIZES,
        "fps": (16,),
        "seed": True,
        "local": LOCAL,
    }
    return card(**{**base, **given})


def image(width: int | None = 1280, height: int | None = 720) -> InputMedia:
    return InputMedia(asset=Asset(id="a" * 64, mime="image/png", size_bytes=10, width=width, height=height))


def media(kind: str, seconds: float | None = None) -> InputMedia:
    asset = Asset(id="b" * 64, mime=f"{kind}/mp4", size_bytes=10, duration_s=seconds)
    return InputMedia.model_validate({"asset": asset, "type": kind})


def ask(
    card: ModelCard,
    *,
    first: InputMedia | None = None,
    last: InputMedia | None = None,
    refs: tuple[InputMedia, ...] = (),
    drop: bool | tuple[str, ...] = False,
    **fields: Any,
) -> ResolvedRequest:
    inputs: dict[InputKey, InputMedia] = dict(enumerate(refs))
    frames = []
    for kind, given_frame in ((FrameType.FIRST, first), (FrameType.LAST, last)):
        if given_frame is not None:
            inputs[kind] = given_frame
            frames.append({"frame_type": kind, "url": "asset:x"})
    request = VideoRequest.model_validate(
        {
            "prompt": "a red kite",
            "frame_images": frames,
            "input_references": [{"type": m.type, "url": "asset:x"} for m in refs],
            "preferences": {"allow_drop": drop},
            **fields,
        }
    )
    return fit(request, card, seed=DRAWN, inputs=inputs)


def misfits(card: ModelCard, **given: Any) -> tuple[Misfit, ...]:
    with pytest.raises(UnsupportedRequest) as caught:
        ask(card, **given)
    assert caught.value.misfits
    assert caught.value.param == caught.value.misfits[0].field
    return caught.value.misfits


def test_nothing_asked_gives_the_first_value_of_every_list() -> None:
    made = ask(card(fps=(24, 30), qualities=("standard", "high"), seed=True))
    assert (made.duration, made.resolution, made.aspect_ratio, made.fps) == (5, "720p", "16:9", 24)
    assert (made.quality, made.seed, made.generate_audio, made.warnings) == (
        Quality.STANDARD,
        DRAWN,
        False,
        (),
    )
    assert (made.model, made.backend, made.wire_id) == ("acme/reel-2", "acme", "reel-2")


def test_every_misfit_is_listed_at_once_in_both_languages() -> None:
    found = misfits(
        card(),
        duration=7,
        resolution="4k",
        aspect_ratio="21:9",
        fps=30,
        seed=0,
        guidance=3,
        quality="high",
        camera="zoom_in",
        generate_audio=True,
        negative_prompt="blur",
        provider_options={"acme": {"x": 1}},
    )
    assert {m.field for m in found} == {
        *("duration", "resolution", "aspect_ratio", "fps", "seed", "guidance", "quality", "camera"),
        *("generate_audio", "negative_prompt", "provider_options.acme.x"),
    }
    assert all(m.reason.en and m.reason.ja and m.reason.en != m.reason.ja for m in found)
    assert [m.field for m in found if not m.droppable] == ["provider_options.acme.x"]


def test_a_misfit_says_what_would_fit() -> None:
    (found,) = misfits(card(), duration=7)
    assert "5, 10 s" in found.reason.en and "5、10 秒" in found.reason.ja


def test_what_may_be_dropped_is_dropped_with_a_warning_and_the_rest_stays_a_misfit() -> None:
    made = ask(card(), duration=7, camera="zoom_in", drop=("duration", "camera"))
    assert (made.duration, made.camera) == (5, None)
    assert [w.en.split()[0] for w in made.warnings] == ["duration", "camera"]
    assert [m.field for m in misfits(card(), duration=7, seed=1, drop=("duration",))] == ["seed"]
    assert [m.field for m in misfits(card(prompt_max=3), drop=True)] == ["prompt"]


def test_a_frame_that_was_not_taken_in_is_a_mistake_of_ours() -> None:
    request = VideoRequest.model_validate({"frame_images": ["asset:x"]})
    with pytest.raises(KeyError):
        fit(request, card(), seed=1, inputs={})


@pytest.mark.parametrize(
    ("given", "wanted", "made"),
    [
        ({}, 10, 10),
        ({}, None, 5),
        ({}, 5.5, None),
        ({"duration_range": (3, 15, 1), "durations": (5,)}, None, 5),
        ({"duration_range": (3, 15, 1), "durations": ()}, None, 3),
        ({"duration_range": (3, 15, 1)}, 15, 15),
        ({"duration_range": (3, 15, 0.5)}, 3.5, 3.5),
        ({"duration_range": (3, 15, 1)}, 3.5, None),
        ({"duration_range": (3, 15, 1)}, 16, None),
        ({"duration_range": (0.1, 2, 0.1)}, 0.7, 0.7),
        ({"durations": ()}, None, 0),
        ({"durations": ()}, 5, None),
        ({"durations": (), "wire": {"fixed_duration": 6}}, None, 6),
        ({"durations": (), "wire": {"fixed_duration": 6}}, 6, 6),
        ({"durations": (), "wire": {"fixed_duration": 6}}, 5, None),
    ],
)
def test_duration(given: dict[str, Any], wanted: float | None, made: float | None) -> None:
    if made is None:
        assert [m.field for m in misfits(card(**given), duration=wanted)] == ["duration"]
    else:
        assert ask(card(**given), duration=wanted).duration == made


def test_work_on_a_video_is_as_long_as_the_video() -> None:
    upscale = card(tasks=("upscale",), durations=(), references={"video": 1}, prompt_required=False)
    assert ask(upscale, task="upscale", refs=(media("video", 7.5),)).duration == 7.5
    lips = card(tasks=("lip-sync",), durations=(), references={"video": 1, "audio": 1})
    refs = (media("video", 7.5), media("audio", 3.25))
    assert ask(lips, task="lip-sync", refs=refs).duration == 7.5, "new lips, the same clip, the same bill"
    talking = card(tasks=("avatar",), durations=(), references={"video": 1, "audio": 1})
    assert ask(talking, task="avatar", refs=refs).duration == 3.25


FULL_SIZES = (
    Size(resolution="720p", aspect_ratio="16:9", width=1280, height=720),
    Size(resolution="720p", aspect_ratio="1:1", width=960, height=960),
    Size(resolution="1080p", aspect_ratio="9:16", width=1080, height=1920),
)


@pytest.mark.parametrize(
    ("sizes", "resolution", "ratio", "made"),
    [
        ((), "1080p", None, ("1080p", "16:9", None)),
        ((), None, "9:16", ("720p", "9:16", None)),
        ((), None, "32:18", ("720p", "16:9", None)),
        ((), "1280x720", None, ("720p", "16:9", None)),
        ((), "720x1280", None, ("720p", "9:16", None)),
        ((), "1920x1088", None, "resolution"),
        ((), "1290x720", None, ("720p", "16:9", None)),
        ((), "1100x720", None, "resolution"),
        ((), "1280x720", "16:9", ("720p", "16:9", None)),
        ((), "1280x720", "1:1", "aspect_ratio"),
        ((), "480p", None, "resolution"),
        ((), None, "4:3", "aspect_ratio"),
        (FULL_SIZES, None, None, ("720p", "16:9", (1280, 720))),
        (FULL_SIZES, "960x960", None, ("720p", "1:1", (960, 960))),
        (FULL_SIZES, "1280x720", None, ("720p", "16:9", (1280, 720))),
        (FULL_SIZES, None, "9:16", ("1080p", "9:16", (1080, 1920))),
        (FULL_SIZES, "1080p", None, ("1080p", "9:16", (1080, 1920))),
        (FULL_SIZES, "1080p", "16:9", "aspect_ratio"),
        (FULL_SIZES, "640x480", None, "resolution"),
    ],
)
def test_size(sizes: tuple[Size, ...], resolution: str | None, ratio: str | None, made: Any) -> None:
    model = card(sizes=sizes)
    if isinstance(made, str):
        assert [m.field for m in misfits(model, resolution=resolution, aspect_ratio=ratio)] == [made]
        return
    found = ask(model, resolution=resolution, aspect_ratio=ratio)
    pixels = (found.width, found.height) if found.width else None
    assert (found.resolution, found.aspect_ratio, pixels) == made


def test_four_k_and_2160p_are_one_thing_in_the_cards_own_spelling() -> None:
    assert ask(card(resolutions=("1080p", "4K")), resolution="2160p").resolution == "4K"
    assert ask(card(resolutions=("1080p", "4k")), resolution="3840x2160").resolution == "4k"


def test_near_pixels_are_made_in_the_listed_size_with_a_warning() -> None:
    made = ask(card(sizes=FULL_SIZES), resolution="1290x720")
    assert (made.width, made.height) == (1280, 720)
    assert "1280x720 instead of 1290x720" in made.warnings[0].en


def test_a_ratio_that_a_resolution_does_not_have_names_those_it_has() -> None:
    (found,) = misfits(card(sizes=FULL_SIZES), resolution="1080p", aspect_ratio="1:1")
    assert found.reason.en == "1:1 is not possible at 1080p; possible: 9:16"


@pytest.mark.parametrize(
    ("pixels", "ratio", "warned"),
    [
        ((1280, 720), "16:9", False),
        ((700, 1280), "9:16", True),
        ((1000, 1010), "1:1", False),
        ((700, 600), "1:1", True),
    ],
)
def test_with_an_image_the_nearest_ratio_is_taken(pixels: tuple[int, int], ratio: str, warned: bool) -> None:
    made = ask(card(), first=image(*pixels))
    assert made.aspect_ratio == ratio
    assert bool(made.warnings) is warned


def test_an_image_of_unknown_size_leaves_the_default_ratio() -> None:
    assert ask(card(), first=image(None, None)).aspect_ratio == "16:9"


def test_a_ratio_asked_for_wins_over_the_image() -> None:
    assert ask(card(), first=image(600, 600), aspect_ratio="9:16").aspect_ratio == "9:16"


def test_auto_is_chosen_with_an_image_where_the_provider_has_it() -> None:
    assert ask(card(aspect_ratios=("16:9", "auto")), first=image(800, 600)).aspect_ratio == "auto"
    assert ask(card(aspect_ratios=("16:9", "auto"))).aspect_ratio == "16:9"


def test_a_model_that_follows_the_image_takes_no_other_ratio() -> None:
    model = card(aspect_from_image=True)
    assert ask(model, first=image(800, 600)).aspect_ratio is None
    assert ask(model, first=image(1280, 720), aspect_ratio="16:9", resolution="1080p").resolution == "1080p"
    assert ask(model, first=image(1280, 720), resolution="1920x1080").resolution == "1080p"
    assert ask(model).aspect_ratio == "16:9"
    (found,) = misfits(model, first=image(800, 600), aspect_ratio="16:9")
    assert (found.field, found.droppable) == ("aspect_ratio", True)
    (found,) = misfits(model, first=image(800, 600), resolution="1280x720")
    assert found.field == "resolution"
    (found,) = misfits(model, first=image(800, 600), resolution="480p")
    assert found.field == "resolution"
    assert ask(model, first=image(800, 600), aspect_ratio="16:9", drop=True).aspect_ratio is None


def test_a_model_without_sizes_refuses_a_size() -> None:
    bare = card(resolutions=(), aspect_ratios=())
    assert ask(bare).resolution is None
    assert [m.field for m in misfits(bare, resolution="720p", aspect_ratio="1:1")] == [
        "resolution",
        "aspect_ratio",
    ]
    assert [m.field for m in misfits(bare, resolution="1280x720")] == ["resolution"]


@pytest.mark.parametrize(
    ("wanted", "seconds", "warned"),
    [
        (None, 81 / 16, False),
        (5, 81 / 16, False),
        (2, 33 / 16, False),
        (0.01, 5 / 16, True),
        (7.5, 121 / 16, False),
    ],
)
def test_our_own_device_makes_whole_frames(wanted: float | None, seconds: float, warned: bool) -> None:
    made = ask(local_card(), duration=wanted)
    assert made.duration == seconds
    assert bool(made.warnings) is warned


def test_a_local_clip_that_is_too_long_says_the_longest() -> None:
    (found,) = misfits(local_card(), duration=8)
    assert found.droppable and "at most 7.562 s at 16 fps" in found.reason.en


@pytest.mark.parametrize(
    ("wanted", "made"),
    [
        ("832x480", (832, 480)),
        ("840x490", (832, 480)),
        ("640x384", (640, 384)),
        ("1280x720", None),
        ("64x64", None),
        ("416x240", None),
        ("480p", (832, 480)),
        ("720p", None),
    ],
)
def test_pixels_for_our_own_device_are_rounded_down_to_its_grid(
    wanted: str, made: tuple[int, int] | None
) -> None:
    if made is None:
        assert [m.field for m in misfits(local_card(), resolution=wanted)] == ["resolution"]
    else:
        found = ask(local_card(), resolution=wanted)
        assert (found.width, found.height) == made
        assert bool(found.warnings) is (wanted == "840x490")


def test_local_guidance_is_never_left_open() -> None:
    assert ask(local_card(guidance=True)).guidance == 5.0
    assert ask(local_card(guidance=True), guidance=0).guidance == 0
    assert ask(card(guidance=True)).guidance is None


@pytest.mark.parametrize(
    ("given", "frames", "field", "droppable"),
    [
        ({}, {"first": image(), "last": image()}, "last_frame", True),
        ({}, {"last": image()}, "last_frame", False),
        ({"last_frame": True}, {"last": image()}, "last_frame", False),
        ({"tasks": ("text-to-video",)}, {"first": image()}, "task", False),
    ],
)
def test_frames_that_do_not_fit(given: Any, frames: Any, field: str, droppable: bool) -> None:
    assert [(m.field, m.droppable) for m in misfits(card(**given), **frames)] == [(field, droppable)]


def test_frames_that_fit() -> None:
    both = ask(card(last_frame=True), first=image(), last=image(640, 480))
    assert both.first_frame == image() and both.last_frame == image(640, 480)
    alone = ask(card(last_frame=True, last_frame_alone=True), last=image(720, 1280))
    assert alone.first_frame is None and alone.aspect_ratio == "9:16"
    assert ask(card(), first=image(), last=image(), drop=("last_frame",)).last_frame is None


def test_frames_for_an_upscale_are_refused() -> None:
    model = card(tasks=("upscale",), references={"video": 1})
    found = misfits(model, task="upscale", first=image(), refs=(media("video", 2),))
    assert [m.field for m in found] == ["frame_images"]


def test_references_are_counted_by_kind_and_the_first_ones_kept() -> None:
    model = card(references={"image": 2})
    refs = (image(1, 1), image(2, 2), image(2, 2))
    assert [m.field for m in misfits(model, refs=refs)] == ["input_references"]
    assert ask(model, refs=refs, drop=True).references == refs[:2]
    (found,) = misfits(model, refs=(media("video"),))
    assert "no video references" in found.reason.en


def test_references_a_task_lives_off_cannot_be_dropped() -> None:
    model = card(tasks=("extend",), references={"image": 1})
    found = misfits(model, task="extend", refs=(media("video"),), drop=True)
    assert [(m.field, m.droppable) for m in found] == [("input_references", False)]
    assert "needs the video" in misfits(card(tasks=("extend",)), task="extend")[0].reason.en


@pytest.mark.parametrize(
    ("audio", "default", "wanted", "made"),
    [
        ("none", False, None, False),
        ("none", False, False, False),
        ("none", False, True, None),
        ("always", False, None, True),
        ("always", False, True, True),
        ("always", False, False, None),
        ("optional", False, None, False),
        ("optional", True, None, True),
        ("optional", True, False, False),
    ],
)
def test_audio(audio: str, default: bool, wanted: bool | None, made: bool | None) -> None:
    model = card(audio=audio, audio_default=default)
    if made is None:
        assert [(m.field, m.droppable) for m in misfits(model, generate_audio=wanted)] == [
            ("generate_audio", True)
        ]
        assert ask(model, generate_audio=wanted, drop=True).generate_audio is (audio == "always")
    else:
        assert ask(model, generate_audio=wanted).generate_audio is made


@pytest.mark.parametrize(
    ("kind", "presets", "wanted", "fits"),
    [
        ("none", (), "static", False),
        ("none", (), "pan=5", False),
        ("words", (), "orbit_left", True),
        ("words", ("zoom_in",), "orbit_left", False),
        ("words", ("zoom_in",), "zoom_in", True),
        ("words", (), "pan=-3", True),
        ("presets", (), "orbit_left", True),
        ("presets", ("zoom_in",), "zoom_in", True),
        ("presets", ("zoom_in",), "zoom_out", False),
        ("presets", (), "zoom=5", False),
        ("axes", (), "zoom=5", True),
        ("axes", (), "truck_left", True),
        ("axes", (), "orbit_left", False),
        ("axes", (), "static", False),
        ("axes", ("static",), "static", True),
    ],
)
def test_camera(kind: str, presets: tuple[str, ...], wanted: str, fits: bool) -> None:
    model = card(camera=kind, camera_presets=presets)
    if fits:
        assert ask(model, camera=wanted).camera is not None
    else:
        assert [(m.field, m.droppable) for m in misfits(model, camera=wanted)] == [("camera", True)]
    assert set(presets_of(model)) <= set(CAMERA_PRESETS)


def test_seed_zero_is_a_seed() -> None:
    assert ask(card(seed=True), seed=0).seed == 0
    assert ask(card(seed=False)).seed is None


@pytest.mark.parametrize(
    ("unit", "most", "fits"),
    [
        ("characters", 2, True),
        ("characters", 1, False),
        ("utf16", 3, True),
        ("utf16", 2, False),
        ("bytes", 7, True),
        ("bytes", 6, False),
    ],
)
def test_a_prompt_is_measured_in_the_providers_unit(unit: str, most: int, fits: bool) -> None:
    model = card(prompt_unit=unit, prompt_max=most)
    if fits:
        assert ask(model, prompt="凧🪁").prompt == "凧🪁"
    else:
        assert [(m.field, m.droppable) for m in misfits(model, prompt="凧🪁")] == [("prompt", False)]


def test_a_missing_prompt_matters_only_where_the_model_needs_one() -> None:
    assert ask(card(prompt_required=False), first=image(), prompt="").prompt == ""
    assert [m.field for m in misfits(card(), first=image(), prompt="")] == ["prompt"]


def test_a_language_the_model_does_not_understand_is_a_misfit() -> None:
    assert ask(card(languages=("en", "zh")), prompt_language="en-GB")
    assert ask(card(), prompt_language="ja")
    assert [m.field for m in misfits(card(languages=("en",)), prompt_language="ja")] == ["prompt_language"]


def test_an_effect_must_be_one_of_the_card() -> None:
    model = card(tasks=("effect",), effects=("hug", "melt"))
    assert ask(model, task="effect", effect="hug", first=image()).effect == "hug"
    assert [m.field for m in misfits(model, task="effect", effect="fly", first=image())] == ["effect"]


def test_only_the_options_for_this_provider_are_taken() -> None:
    model = card(options={"cfg": "scale"})
    assert ask(model, provider_options={"acme": {"cfg": 1}, "other": {"x": 2}}).options == {"cfg": 1}


CARDS = st.builds(
    card,
    durations=st.lists(st.integers(1, 20), max_size=3, unique=True).map(tuple),
    resolutions=st.lists(st.sampled_from(("480p", "720p", "1080p", "4k")), max_size=3, unique=True).map(
        tuple
    ),
    aspect_ratios=st.lists(
        st.sampled_from(("16:9", "9:16", "1:1", "4:3", "auto")), max_size=4, unique=True
    ).map(tuple),
    sizes=st.sampled_from(((), FULL_SIZES)),
    aspect_from_image=st.booleans(),
    fps=st.lists(st.sampled_from((8, 16, 24)), max_size=2, unique=True).map(tuple),
    last_frame=st.booleans(),
    audio=st.sampled_from(("none", "optional", "always")),
    camera=st.sampled_from(("none", "words", "presets", "axes")),
    seed=st.booleans(),
    guidance=st.booleans(),
    qualities=st.sampled_from((("standard",), ("draft", "high"))),
) | st.builds(local_card, sizes=st.sampled_from((WAN_SIZES, FULL_SIZES)), seed=st.booleans())
ASKED = st.fixed_dictionaries(
    {},
    optional={
        "duration": st.floats(0.1, 30) | st.integers(1, 20),
        "resolution": st.sampled_from(
            ("480p", "720p", "4k", "1280x720", "832x480", "500x500", "1000x700", "99x10000")
        ),
        "aspect_ratio": st.sampled_from(("16:9", "1:1", "21:9", "9:16")),
        "fps": st.sampled_from((8, 24, 60)),
        "seed": st.integers(0, 2**32 - 1),
        "guidance": st.floats(0, 20),
        "quality": st.sampled_from(("draft", "standard", "high")),
        "camera": st.sampled_from(("zoom_in", "static", "pan=2")),
        "generate_audio": st.booleans(),
        "drop": st.booleans(),
        "first": st.builds(image, st.integers(1, 4000), st.integers(1, 4000)),
        "last": st.just(image(640, 480)),
    },
)


@settings(max_examples=300, deadline=None)
@given(CARDS, ASKED)
def test_what_is_resolved_is_always_possible_and_a_refusal_always_explained(
    model: ModelCard, asked: dict[str, Any]
) -> None:
    try:
        made = ask(model, **asked)
    except UnsupportedRequest as error:
        assert error.misfits
        for misfit in error.misfits:
            assert misfit.reason.en.strip() and misfit.reason.ja.strip()
            assert not (asked.get("drop") and misfit.droppable)
        return
    assert made.fps in (model.fps or (None,))
    assert made.quality in model.qualities
    assert (made.seed is None) is not model.seed
    assert model.audio == "optional" or made.generate_audio is (model.audio == "always")
    assert made.last_frame is None or model.last_frame
    if model.local is None:
        assert made.duration in (model.durations or (0.0,))
        assert made.resolution in (*(model.resolutions or [s.resolution for s in model.sizes]), None)
        assert made.aspect_ratio in (*(model.aspect_ratios or [s.aspect_ratio for s in model.sizes]), None)
    else:
        assert made.fps and made.width and made.height
        frames = made.duration * made.fps
        assert frames == round(frames) and (frames - 1) % 4 == 0 and 5 <= frames <= 121
        assert (made.width, made.height) in {(s.width, s.height) for s in model.sizes} or (
            made.width % 16 == 0 and made.height % 16 == 0
        )
        assert proportion(made.aspect_ratio or "") is not None
    if made.width and made.height and (listed := [s for s in model.sizes if s.resolution == made.resolution]):
        assert (made.width, made.height) in {(s.width, s.height) for s in listed}


def test_every_task_of_the_schema_can_be_on_a_card() -> None:
    assert card(tasks=tuple(Task)).tasks == tuple(Task)
