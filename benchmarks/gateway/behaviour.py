"""The cases of the behaviour table, played against a gateway with two providers behind it: what it did, counted there.

The preferred provider `a` is a twin that is told to misbehave, `b` a healthy one; both have OpenAI's shape. What was
bought is what the twins' own bills say, not what the gateway says of itself.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from tests.sandbox_process import SandboxProcess

TWIN = "openai"
RENDER_S = 0.4
WAIT_S = 45.0
"""Longest wait for one case."""
SLOW_S, TIMEOUT_S, RETRY_AFTER_S = 6.0, 3.0, 7.0
AT_ONCE, BUDGET_USD, JOB_USD = 20, "1.00", "0.50"
PROJECT = "bench"
POLLS = 20
SIZES = ("1280x720", "1920x1080")
ENDED = frozenset({"completed", "failed", "cancelled"})


class Refuser:
    """A provider that refuses every prompt at the door, as a filter in front of a model does; counts the calls."""

    def __init__(self) -> None:
        """Serves after `with`."""
        self.posts = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer.posts += 1
                self.rfile.read(int(self.headers.get("content-length", 0)))
                said = {
                    "message": "Your request was blocked by our moderation system.",
                    "type": "invalid_request_error",
                    "param": None,
                    "code": "moderation_blocked",
                }
                body = json.dumps({"error": said}).encode()
                self.send_response(400)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def serving(self) -> Iterator["Refuser"]:
        """Until the block ends."""
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()


@dataclass(frozen=True)
class Outcome:
    """What one gateway did in one case."""

    case: str
    gateway: str
    numbers: dict[str, Any]
    text: str


class Stage:
    """A gateway, its two providers and the cases."""

    def __init__(
        self, gateway: str, url: str, a: SandboxProcess, b: SandboxProcess, refuser: Refuser
    ) -> None:
        """The gateway knows a model per case, by the case's name."""
        self.gateway, self.a, self.b, self.refuser = gateway, a, b, refuser
        self.client = httpx.Client(base_url=url, trust_env=False, timeout=90)

    # -- parts

    def _reset(self) -> None:
        for twin in (self.a, self.b):
            twin.reset()
            # $0.10 a second at the twin; 1.25 makes four seconds cost $0.50.
            twin.settings(TWIN, render_seconds=RENDER_S, concurrency=1000, price_factor="1.25")

    def _create(
        self, model: str, prompt: str = "a lighthouse", *, size: str = SIZES[0], **more: str
    ) -> httpx.Response:
        body = {"model": model, "prompt": prompt, "seconds": "4", "size": size, **more}
        return self.client.post("/v1/videos", json=body)

    def _until_ended(self, answer: httpx.Response) -> str:
        if answer.is_error:
            return f"HTTP {answer.status_code}"
        job, until, status = answer.json()["id"], time.monotonic() + WAIT_S, "?"
        while time.monotonic() < until:
            seen = self.client.get(f"/v1/videos/{job}")
            status = seen.json()["status"] if seen.is_success else f"HTTP {seen.status_code}"
            if status in ENDED:
                break
            time.sleep(0.1)
        return str(status)

    def _bought(self) -> tuple[int, int]:
        return len(self.a.bill(TWIN)), len(self.b.bill(TWIN))

    def _posts(self, twin: SandboxProcess) -> int:
        return sum(1 for row in twin.requests() if row["method"] == "POST")

    def _accepted_after(self, started: float) -> float | None:
        """Seconds from `started` to the first job that the healthy provider accepted."""
        rows = self.b.bill(TWIN)
        if not rows:
            return None
        return datetime.fromisoformat(str(rows[0]["accepted_at"])).timestamp() - started

    def _played(self, case: str, text: str, **numbers: Any) -> Outcome:
        return Outcome(case, self.gateway, numbers, text)

    # -- cases

    def failed(self) -> Outcome:
        """Accepted, then it fails."""
        self._reset()
        self.a.post_fault(TWIN, "fail_after_accept")
        status = self._until_ended(self._create("failed"))
        a, b = self._bought()
        text = f"ends as {status}; {a} job at the failing provider, {b} elsewhere"
        return self._played("accepted, then failed", text, status=status, accepted_a=a, accepted_b=b)

    def slow(self) -> Outcome:
        """The provider accepts after 6 s."""
        self._reset()
        self.a.post_fault(TWIN, "slow_accept", times=-1, seconds=SLOW_S)
        started = time.monotonic()
        answer = self._create("slow")
        answered = time.monotonic() - started
        status = self._until_ended(answer)
        # Submits that the gateway gave up on may still be accepted.
        time.sleep(max(0.0, SLOW_S + 1 - (time.monotonic() - started)))
        a, b = self._bought()
        text = f"1 request became {a + b} accepted job(s) ({a} slow, {b} elsewhere); caller answered after {answered:.2f} s"
        return self._played(
            f"slow accept ({SLOW_S:.0f} s)",
            text,
            accepted_a=a,
            accepted_b=b,
            answered_s=round(answered, 2),
            status=status,
        )

    def limited(self) -> Outcome:
        """429 with Retry-After."""
        return self._refusing(
            "limited", f"429, Retry-After {RETRY_AFTER_S:.0f} s", "rate_limit", RETRY_AFTER_S
        )

    def down(self) -> Outcome:
        """503."""
        return self._refusing("down", "503", "unavailable", 1.0)

    def _refusing(self, model: str, case: str, fault: str, seconds: float) -> Outcome:
        self._reset()
        self.a.post_fault(TWIN, fault, times=-1, seconds=seconds)
        started, clock = time.monotonic(), time.time()
        answer = self._create(model)
        answered = time.monotonic() - started
        status = self._until_ended(answer)
        after, posts = self._accepted_after(clock), self._posts(self.a)
        accepted = sum(self._bought())
        when = "never" if after is None else f"after {after:.2f} s"
        text = f"running elsewhere {when}; {posts} POST(s) to the refusing provider; caller answered after {answered:.2f} s"
        return self._played(
            case,
            text,
            fallback_s=None if after is None else round(after, 3),
            posts_a=posts,
            answered_s=round(answered, 2),
            accepted=accepted,
            status=status,
        )

    def refused(self) -> Outcome:
        """The provider's moderation says no (400)."""
        self._reset()
        before = self.refuser.posts
        status = self._until_ended(self._create("refused", "a prompt that is refused"))
        posts, b = self.refuser.posts - before, self._bought()[1]
        text = (
            f"{posts} POST(s) of the refused prompt, then bought elsewhere {b} time(s); caller sees {status}"
        )
        return self._played("moderation refusal (400)", text, posts_a=posts, accepted_b=b, status=status)

    def budget(self) -> Outcome:
        """Twenty jobs of $0.50 at once on a budget of $1 a day."""
        self._reset()
        # Understudy's budget is a project's here, LiteLLM's the deployment's: the other cases cost money too.
        more = {"project": PROJECT} if self.gateway == "Understudy" else {}
        with ThreadPoolExecutor(AT_ONCE) as threads:
            answers = list(threads.map(lambda n: self._create("budget", f"clip {n}", **more), range(AT_ONCE)))
        # Whatever was taken in and could start has started by then.
        time.sleep(3)
        a, b = self._bought()
        spent = sum(float(row["usd"]) for twin in (self.a, self.b) for row in twin.bill(TWIN))
        said_no = sum(1 for answer in answers if answer.is_error)
        late = "refused" if self._create("budget", "one more", **more).is_error else "taken in"
        text = (
            f"{a + b} accepted by the provider, ${spent:.2f} billed; {said_no} of {AT_ONCE} refused at the door; "
            f"one more 3 s later is {late}"
        )
        return self._played(
            f"${BUDGET_USD} a day, {AT_ONCE} concurrent ${JOB_USD} jobs",
            text,
            accepted=a + b,
            billed_usd=round(spent, 2),
            refused=said_no,
            one_more=late,
        )

    def polls(self) -> Outcome:
        """Twenty status polls of a finished job."""
        self._reset()
        answer = self._create("polls")
        self._until_ended(answer)
        time.sleep(1)
        before = len(self.a.requests()) + len(self.b.requests())
        job = answer.json()["id"]
        for _ in range(POLLS):
            self.client.get(f"/v1/videos/{job}").raise_for_status()
        calls = len(self.a.requests()) + len(self.b.requests()) - before
        text = f"{calls} calls to the provider for {POLLS} polls of a finished job"
        return self._played("status poll", text, polls=POLLS, provider_calls=calls)

    def price(self) -> Outcome:
        """`a` is dear at 720p and cheap at 1080p, `b` the other way round."""
        self._reset()
        right = 0
        for size, cheap in zip(SIZES, (self.b, self.a), strict=True):
            for _ in range(2):
                before = len(cheap.bill(TWIN))
                self._until_ended(self._create("price", size=size))
                right += len(cheap.bill(TWIN)) - before
        text = f"{right} of 4 jobs went where their resolution is cheaper"
        return self._played("price by resolution", text, right=right, of=4)

    def play(self, say: Callable[[str], None]) -> list[Outcome]:
        """Every case; one that cannot be played says why."""
        outcomes = []
        cases = (
            self.failed,
            self.slow,
            self.limited,
            self.down,
            self.refused,
            self.budget,
            self.polls,
            self.price,
        )
        with self.client:
            for case in cases:
                try:
                    outcomes.append(case())
                except (httpx.HTTPError, KeyError, ValueError) as error:
                    what = f"could not be played: {type(error).__name__}"
                    outcomes.append(Outcome(case.__name__, self.gateway, {}, what))
                say(f"{self.gateway}: {outcomes[-1].case}: {outcomes[-1].text}")
        return outcomes
