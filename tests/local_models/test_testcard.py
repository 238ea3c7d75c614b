"""The test card: a backend without a model, honest about time, failure and cancel."""

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import av
import pytest

from local_models.testcard import FAILURES, Pattern
from router.catalog import Catalog
from router.contract import errors
from router.contract.backend import Backend, BackendConfig, Completed, Operation, Pending
from router.contract.card import InputKey, InputMedia, ResolvedRequest
from router.contract.fit import fit
from router.contract.request import VideoRequest
from tests.committing import committing
from tests.local_models.conftest import OneImage, request

CARD = Catalog.load().cards["testcard/bars"]


def resolved(inputs: dict[InputKey, InputMedia] | None = None, **fields: Any) -> ResolvedRequest:
    options = fields.pop("options", {})
    asked = VideoRequest(prompt="bars", provider_options={"testcard": options}, **fields)
    return fit(asked, CARD, seed=3, inputs=inputs or {})


@pytest.fixture
async def testcard(tmp_path: Path, picture: Path) -> AsyncIterator[Pattern]:
    backend = Pattern(BackendConfig("testcard", {CARD.id: CARD}, OneImage(picture), tmp_path / "scratch"))
    yield backend
    await backend.aclose()


async def finished(backend: Pattern, operation: Operation) -> Completed:
    look = await backend.poll(operation)
    assert isinstance(look, Completed)
    return look


async def test_it_makes_a_playable_clip_as_asked(testcard: Pattern, tmp_path: Path) -> None:
    with committing() as commits:
        operation = await testcard.submit(
            resolved(duration=1, resolution="180p", aspect_ratio="9:16"), key="j:a1"
        )
    assert len(commits) == 1
    done = await finished(testcard, operation)
    assert done.billed_usd == Decimal(0)
    assert await testcard.poll(operation) == done
    await testcard.fetch(done.outputs[0], tmp_path / "clip.mp4")
    with av.open(str(tmp_path / "clip.mp4")) as clip:
        stream = clip.streams.video[0]
        assert (stream.width, stream.height, stream.frames) == (180, 320, 12)
        assert stream.average_rate == 12
    with pytest.raises(errors.OperationLost):
        await testcard.poll(operation)


async def test_a_seed_means_the_same_clip_and_an_image_is_its_ground(testcard: Pattern) -> None:
    async def clip(asked: ResolvedRequest) -> bytes:
        path = (await finished(testcard, await testcard.submit(asked, key="j:a1"))).outputs[0].path
        assert path is not None
        return path.read_bytes()

    plain = resolved(duration=1)
    first_frame = request("local/x", image=True).first_frame
    assert await clip(plain) == await clip(plain)
    assert await clip(plain.model_copy(update={"seed": 4})) != await clip(plain)
    assert await clip(plain.model_copy(update={"first_frame": first_frame})) != await clip(plain)


async def test_its_progress_goes_by_the_clock_and_a_cancel_ends_it(testcard: Pattern) -> None:
    operation = await testcard.submit(resolved(options={"seconds": 3600}), key="j:a1")
    look = await testcard.poll(operation)
    assert isinstance(look, Pending)
    assert look.progress is not None and look.progress < 0.5
    assert await testcard.cancel(operation)
    assert not await testcard.cancel(operation)
    with pytest.raises(errors.Cancelled):
        await testcard.poll(operation)


@pytest.mark.parametrize("kind", sorted(FAILURES))
async def test_it_fails_as_told_after_acceptance(testcard: Pattern, kind: str) -> None:
    operation = await testcard.submit(resolved(options={"fail": kind}), key="j:a1")
    with pytest.raises(FAILURES[kind]) as caught:
        await testcard.poll(operation)
    assert isinstance(caught.value, errors.ENDS_ACCEPTED)
    assert caught.value.billed_usd == Decimal(0)


@pytest.mark.parametrize(
    "options", [{"seconds": -1}, {"seconds": True}, {"seconds": "1"}, {"fail": "sometimes"}]
)
async def test_an_option_that_is_none_is_refused(testcard: Pattern, options: dict[str, Any]) -> None:
    with committing() as commits, pytest.raises(errors.InvalidRequest, match=r"provider_options\.testcard"):
        await testcard.submit(resolved(options=options), key="j:a1")
    assert commits == []


async def test_an_unknown_ticket_is_lost_and_it_is_a_backend(testcard: Pattern) -> None:
    assert isinstance(testcard, Backend)
    with pytest.raises(errors.OperationLost):
        await testcard.poll(Operation(ref="gone"))
    assert not await testcard.cancel(Operation(ref="gone"))
