"""Google Veo on Vertex AI: long-running predictions, clips as base64 or in your own Cloud Storage bucket.

`GOOGLE_APPLICATION_CREDENTIALS` names a JSON file; what goes on the wire is an OAuth2 token made from it. The paths are
v1beta1, those of the official SDK google-genai 3.6.1, whose converters are also the source of every field here.
There is no idempotency key, no list and no proven cancel (`lost_submit = "hold"`, `cancel = "no"`).
"""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from pydantic import BaseModel, Field, JsonValue

from api_providers._answer import redact
from api_providers._camera import prompt_with_camera
from api_providers._errors import said
from api_providers._google import GoogleProvider, refuses_content
from router.contract import errors
from router.contract.backend import BackendConfig, Completed, Operation, Output, Pending
from router.contract.card import InputMedia, ResolvedRequest
from router.contract.errors import GatewayError
from router.contract.request import Task
from router.contract.words import words

POLL_AFTER_S = 10.0
"""The pace of the SDK's documentation."""
LOCATION = "us-central1"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
VERSION = "v1beta1"
EXTENDS_UP_TO_S = 30.0
"""Longest video that can be extended (docs.cloud.google.com, extend-a-veo-video)."""
CANCELLED = 1
"""google.rpc.Code."""
_NAME = re.compile(r"[a-z0-9][a-z0-9.:-]*")


class _Submitted(BaseModel):
    name: str = Field(pattern=r"/operations/.")


class _Video(BaseModel):
    gcsUri: str | None = None
    bytesBase64Encoded: str | None = None
    mimeType: str | None = None


class _Response(BaseModel):
    type_: str = Field(default="", alias="@type")
    videos: list[_Video] = []
    raiMediaFilteredCount: int = 0
    raiMediaFilteredReasons: list[str] = []


class _Status(BaseModel):
    code: int = 0
    message: str = ""


class _OperationView(BaseModel):
    """`done` is absent, not false, while the clip is being made."""

    name: str
    done: bool = False
    error: _Status | None = None
    response: _Response | None = None


class Veo(GoogleProvider):
    """predictLongRunning and fetchPredictOperation; options `project`, `location`, `storage_uri` (gs://...)."""

    base_url = f"https://{LOCATION}-aiplatform.googleapis.com"
    also_ours: ClassVar[Mapping[str, str]] = {"storage": "https://storage.googleapis.com"}

    def __init__(self, config: BackendConfig) -> None:
        """The location decides the host; `options["poll_after"]`: seconds between looks."""
        self._location = str(config.options.get("location", LOCATION))
        self._bucket = str(config.options.get("storage_uri", "")).rstrip("/")
        if not _NAME.fullmatch(self._location) or (self._bucket and not self._bucket.startswith("gs://")):
            raise errors.ServerTrouble(
                words(
                    f"[providers.{config.name}]: location is a name such as us-central1, storage_uri begins with gs://",
                    f"[providers.{config.name}]: location は us-central1 のような名前、"
                    "storage_uri は gs:// で始まる必要があります。",
                )
            )
        super().__init__(replace(config, base_url=config.base_url or host_of(self._location)))
        self._poll_after = float(config.options.get("poll_after", POLL_AFTER_S))
        self._credentials: Any = None
        self._project = str(config.options.get("project", "sandbox" if config.sandbox else ""))
        self._signing = asyncio.Lock()

    async def submit(self, request: ResolvedRequest, *, key: str) -> Operation:
        """Buy one clip; `key` goes along as a label, which Google's billing export shows."""
        body = await self.payload(request, key=key)
        path = f"{await self._models()}/{self.card(request).wire_id}:predictLongRunning"
        answer = await self.call("POST", path, spends=True, json=body)
        return Operation(ref=self.view(_Submitted, answer, spends=True).name)

    async def payload(self, request: ResolvedRequest, *, key: str) -> dict[str, Any]:
        """The body as the SDK's `_GenerateVideosParameters_to_vertex` builds it."""
        card = self.card(request)
        instance: dict[str, Any] = {}
        if prompt := prompt_with_camera(request, card):
            instance["prompt"] = prompt
        if request.first_frame:
            instance["image"] = await self._media(request.first_frame)
        if request.last_frame:
            instance["lastFrame"] = await self._media(request.last_frame)
        images = [media for media in request.references if media.type == "image"]
        if images:
            instance["referenceImages"] = [
                {"image": await self._media(media), "referenceType": "asset"} for media in images
            ]
        parameters: dict[str, Any] = {"sampleCount": 1, "generateAudio": request.generate_audio}
        if request.task is Task.EXTEND:
            instance["video"] = await self._source(request)
        else:
            # An extension has one fixed length.
            parameters["durationSeconds"] = round(request.duration)
        optional = {
            "aspectRatio": request.aspect_ratio,
            "resolution": request.resolution,
            "seed": request.seed,
            "negativePrompt": request.negative_prompt or None,
            "storageUri": self._bucket or None,
        }
        parameters |= {name: value for name, value in optional.items() if value is not None}
        return {
            "instances": [instance],
            "parameters": parameters | request.options,
            "labels": {"understudy": label(key)},
        }

    async def poll(self, operation: Operation) -> Pending | Completed:
        """Not done, an error, filtered away, or clips. A GET on the operation's name would answer 404."""
        resource = operation.ref.rpartition("/operations/")[0]
        if not self.config.sandbox and f"/locations/{self._location}/" not in operation.ref:
            raise errors.Unavailable(
                words(
                    "this clip was bought in another location; set location back to fetch it",
                    "この動画は別の location で購入されました。取得するには location を元に戻してください。",
                ),
                backend=self.name,
            )
        answer = await self.ask(
            "POST",
            f"{VERSION}/{quote(resource, safe='/:')}:fetchPredictOperation",
            json={"operationName": operation.ref},
        )
        if answer.status == 404:
            raise errors.OperationLost(
                words(
                    "no longer knows this operation; look in the Google Cloud console what became of it",
                    "この処理は先方に存在しません。Google Cloud コンソールで状況を確認してください。",
                ),
                backend=self.name,
            )
        view = self.view(_OperationView, self.read(answer))
        if not view.done:
            return Pending(poll_after=self._poll_after)
        if view.error is not None:
            raise self._failure(view.error)
        response = view.response or _Response()
        if response.videos:
            return await self._completed(operation, response.videos)
        if response.raiMediaFilteredCount > 0:
            text = redact("; ".join(response.raiMediaFilteredReasons), self._secrets()) or "no reason given"
            raise errors.ContentRejected(
                said(errors.ContentRejected, text),
                backend=self.name,
                # "You will not be charged for blocked videos": the reason's own text (public issue, Vertex).
                billed_usd=Decimal(0),
                detail=text,
            )
        raise self.error(
            errors.UnexpectedResponse,
            answer._replace(json={"error": f"done without a video: {response.type_ or 'no response'}"}),
        )

    async def check(self) -> Mapping[str, JsonValue]:
        """Asks for an operation that never was: who may ask at all gets 404. Google has no call for a balance."""
        models = await self._models()
        model = next((card.wire_id for card in self.config.cards.values()), "veo-3.1-generate-001")
        resource = f"{models.removeprefix(f'{VERSION}/')}/{model}"
        name = f"{resource}/operations/00000000-0000-4000-8000-000000000000"
        answer = await self.ask(
            "POST", f"{VERSION}/{resource}:fetchPredictOperation", json={"operationName": name}
        )
        kind = self.kind_of_error(answer)
        if kind is not None and answer.status != 404 and kind is not errors.InvalidRequest:
            raise self.error(kind, answer)
        return {"project": self._project, "location": self._location}

    # -- Google's ways

    async def signed_headers(self) -> dict[str, str]:
        """A bearer token that is still good for a while; in the sandbox the key itself is the token."""
        if self.config.sandbox:
            return {"Authorization": f"Bearer {self.secret()}"}
        async with self._signing:
            if self._credentials is None or not self._credentials.valid:
                await asyncio.to_thread(self._sign)
        headers = {"Authorization": f"Bearer {self._credentials.token}"}
        if payer := getattr(self._credentials, "quota_project_id", None):
            headers["x-goog-user-project"] = str(payer)
        return headers

    def _sign(self) -> None:
        """Read the file once and get a fresh token. Blocking: runs in a thread."""
        from google.auth import exceptions
        from google.auth.transport.requests import Request

        try:
            if self._credentials is None:
                self._credentials = credentials_of(self._file())
            self._credentials.refresh(Request())
        except exceptions.TransportError:
            raise errors.Unavailable(
                words(
                    "Google's token server cannot be reached; nothing was bought. It is tried again",
                    "Google のトークンサーバーに接続できません。課金は発生していません。あとで再試行します。",
                ),
                backend=self.name,
            ) from None
        except (exceptions.GoogleAuthError, ValueError, KeyError) as error:
            text = redact(str(error), self._secrets())
            raise errors.AuthenticationFailed(
                words(
                    f"no token for the credentials file ({text}); make a new one and start again",
                    f"認証情報ファイルからトークンを取得できません({text})。作り直してから再起動してください。",
                ),
                backend=self.name,
            ) from None

    def _file(self) -> dict[str, Any]:
        """The credentials file that the key names. Blocking."""
        path = self.config.key.get_secret_value().strip() if self.config.key else ""
        try:
            found = json.loads(Path(path).expanduser().read_text("utf-8"))
        except (OSError, ValueError):
            found = None
        if isinstance(found, dict):
            return found
        raise errors.AuthenticationFailed(
            words(
                "GOOGLE_APPLICATION_CREDENTIALS must be the path of a readable JSON file",
                "GOOGLE_APPLICATION_CREDENTIALS には読み取れる JSON ファイルのパスを設定してください。",
            ),
            backend=self.name,
        )

    def _secrets(self) -> Sequence[str]:
        token = getattr(self._credentials, "token", None)
        return [*super()._secrets(), *([token] if isinstance(token, str) else [])]

    async def _models(self) -> str:
        """The path under which this project calls Google's models."""
        if not self._project:
            found = await asyncio.to_thread(self._file)
            self._project = str(found.get("project_id") or found.get("quota_project_id") or "")
        if not _NAME.fullmatch(self._project):
            raise errors.BackendError(
                words(
                    f"no Google Cloud project: set project in [providers.{self.name}]",
                    f"Google Cloud のプロジェクトがありません。[providers.{self.name}] の project を設定してください。",
                ),
                backend=self.name,
            )
        return f"{VERSION}/projects/{self._project}/locations/{self._location}/publishers/google/models"

    async def _media(self, media: InputMedia) -> dict[str, str]:
        """base64 or gs:// only; a web address is not accepted."""
        return {"bytesBase64Encoded": await self.base64_of(media), "mimeType": media.asset.mime}

    async def _source(self, request: ResolvedRequest) -> dict[str, str]:
        """The video to go on from: where it lies in the bucket if we know, else its bytes."""
        media = next(media for media in request.references if media.type == "video")
        if (media.asset.duration_s or 0) > EXTENDS_UP_TO_S:
            raise errors.BackendError(
                words(
                    "a video longer than 30 s cannot be extended; cut it first",
                    "30 秒を超える動画は延長できません。先に切り出してください。",
                ),
                backend=self.name,
                param="input_references",
            )
        stored = media.source_data.get("gcs_uri") if media.source_backend == self.name else None
        if isinstance(stored, str):
            return {"gcsUri": stored, "mimeType": media.asset.mime}
        return await self._media(media)

    async def _completed(self, operation: Operation, videos: list[_Video]) -> Completed:
        outputs: list[Output] = []
        for number, video in enumerate(videos):
            mime = video.mimeType or "video/mp4"
            if video.bytesBase64Encoded:
                outputs.append(await self.keep(video.bytesBase64Encoded, operation, number, mime))
            elif video.gcsUri:
                outputs.append(Output(url=self._stored(video.gcsUri), mime=mime))
        stored = videos[0].gcsUri
        return Completed(tuple(outputs), details={"gcs_uri": stored} if stored else {})

    def _stored(self, uri: str) -> str:
        """Where Cloud Storage serves `gs://bucket/object`; it takes our token."""
        bucket, _, name = uri.removeprefix("gs://").partition("/")
        path = f"storage/v1/b/{quote(bucket, safe='')}/o/{quote(name, safe='')}"
        return f"{self._bases['storage']}/{path}?alt=media"

    def _failure(self, status: _Status) -> GatewayError:
        """A google.rpc status. What a failed run costs is documented nowhere, so it stays open."""
        text = redact(status.message, self._secrets()) or "no reason given"
        detail = f"google.rpc.Code {status.code}: {text}"
        if status.code == CANCELLED:
            return errors.Cancelled(
                words("the operation was cancelled", "処理はキャンセルされました。"),
                backend=self.name,
                detail=detail,
            )
        if refuses_content(text):
            return errors.ContentRejected(
                said(errors.ContentRejected, text), backend=self.name, billed_usd=Decimal(0), detail=detail
            )
        return errors.GenerationFailed(said(errors.GenerationFailed, text), backend=self.name, detail=detail)


def host_of(location: str) -> str:
    """The host that serves a location: regional, multi-regional (`us`, `eu`) or `global`. Source: google-genai."""
    if location == "global":
        return "https://aiplatform.googleapis.com"
    if location in {"us", "eu"}:
        return f"https://aiplatform.{location}.rep.googleapis.com"
    return f"https://{location}-aiplatform.googleapis.com"


def label(key: str) -> str:
    """Our attempt id as a label value: up to 63 lower-case letters, digits, dashes and underscores."""
    return re.sub(r"[^a-z0-9_-]", "-", key.lower())[:63]


def credentials_of(info: Mapping[str, Any]) -> Any:
    """google-auth's credentials for each kind of file; its own reader for any kind is deprecated."""
    from google.auth import identity_pool, impersonated_credentials
    from google.oauth2 import credentials, service_account

    makers: dict[str, Any] = {
        "service_account": service_account.Credentials.from_service_account_info,
        "authorized_user": credentials.Credentials.from_authorized_user_info,
        "impersonated_service_account": (
            impersonated_credentials.Credentials.from_impersonated_service_account_info
        ),
        "external_account": identity_pool.Credentials.from_info,
    }
    make = makers.get(str(info.get("type")))
    if make is None:
        raise ValueError(f"its type is none of {', '.join(makers)}")
    return make(info, scopes=[SCOPE])
