"""The two gateways as the behaviour cases need them: a model per case, the misbehaving provider preferred."""

from pathlib import Path

from benchmarks.gateway import behaviour, litellm
from benchmarks.gateway.floors import KEY
from benchmarks.gateway.processes import Server, bare_environment
from benchmarks.gateway.understudy import installation, serve_command

WITH_FALLBACK = ("failed", "slow", "limited", "down", "refused", "polls")
LITELLM_FOR_FREE = (
    "a second provider of the very shape it speaks, named as the fallback of every case",
    "prices per second (by resolution too) written into its deployments, and a budget on one deployment",
    "no key checks, no database, no callbacks; one worker, as Understudy",
    "a refusal at the door (400) in the moderation case; the twin's own filter refuses after accepting",
    "create is not durable: what it answers exists at the provider alone",
)
_ROW = """
[provider]
name = "{name}"
title = "{name}"
entry = "api_providers.openai_compatible:OpenAICompatible"
key_env = "OPENAI_API_KEY"
base_url = "{url}"

[[model]]
id = "{name}/video"
wire_id = "{wire}"
family = "{family}"
title = "{name}"
tasks = ["text-to-video"]
durations = [4]
resolutions = ["720p", "1080p"]
aspect_ratios = ["16:9"]
sizes = [
    {{ resolution = "720p", aspect_ratio = "16:9", width = 1280, height = 720 }},
    {{ resolution = "1080p", aspect_ratio = "16:9", width = 1920, height = 1080 }},
]
typical_seconds = 5
failure_billed = "never"
lost_submit = "hold"
as_of = 2026-11-20
source = "the bench"
"""
_PRICE = """
[[model.prices]]
usd = "{usd}"
per = "second"
when = {{ resolution = "{resolution}" }}
as_of = 2026-11-20
source = "the bench"
"""


def _row(family: str, side: str, url: str, usd: tuple[str, str], wire: str = "sora-2") -> tuple[str, str]:
    name = f"{family}-{side}"
    text = _ROW.format(name=name, url=url, wire=wire, family=family)
    for resolution, price in zip(("720p", "1080p"), usd, strict=True):
        text += _PRICE.format(usd=price, resolution=resolution)
    return f"{name}.toml", text


def understudy(home: Path, a: str, b: str, refuser: str) -> Server:
    """Understudy as in production: no sandbox mode, each provider a file with its address and prices."""
    here, there = f"{a}/openai", f"{b}/openai"
    rows = []
    for case in WITH_FALLBACK:
        # A cent less a second makes the misbehaving one the first choice.
        rows += [
            _row(case, "a", f"{refuser}/openai" if case == "refused" else here, ("0.125", "0.125")),
            _row(case, "b", there, ("0.135", "0.135")),
        ]
    rows += [
        _row("budget", "a", here, ("0.125", "0.125")),
        _row("price", "a", here, ("0.30", "0.10"), "org/model"),
        _row("price", "b", there, ("0.05", "0.40"), "org/model"),
    ]
    files = dict(rows)
    installation(home, using=[name.removesuffix(".toml") for name in files], files=files, poll_s=0.2)
    with (home / "understudy.toml").open("a", encoding="utf-8") as settings:
        settings.write(f"[budget.project_day_usd]\n{behaviour.PROJECT} = {behaviour.BUDGET_USD}\n")
    env = bare_environment(home, UNDERSTUDY_HOME=str(home), OPENAI_API_KEY=KEY)
    return Server("Understudy", serve_command(), env, ready_path="/healthz")


def litellm_proxy(folder: Path, home: Path, a: str, b: str, refuser: str) -> Server:
    """LiteLLM with the same providers: a group per case and its fallback."""
    deployments = []
    for case in WITH_FALLBACK:
        more = f"\n      timeout: {behaviour.TIMEOUT_S:.0f}" if case == "slow" else ""
        at = refuser if case == "refused" else a
        deployments += [
            litellm.deployment(at, case, more=more),
            litellm.deployment(b, f"{case}-elsewhere"),
        ]
    budget = f"\n      max_budget: {behaviour.BUDGET_USD}\n      budget_duration: 1d"
    cost = "\n      output_cost_per_second: {0}\n      output_cost_per_video_per_second: {0}"
    by_size = "\n      output_cost_per_second_720p: {0}\n      output_cost_per_second_1080p: {1}"
    deployments += [
        litellm.deployment(a, "budget", more=budget + cost.format("0.125")),
        litellm.deployment(a, "price", more=by_size.format("0.30", "0.10"), model="org/model"),
        litellm.deployment(b, "price", more=by_size.format("0.05", "0.40"), model="org/model"),
    ]
    fallbacks = "".join(f"\n    - {case}: [{case}-elsewhere]" for case in WITH_FALLBACK)
    more = f"""
router_settings:
  num_retries: 2
  routing_strategy: cost-based-routing
  fallbacks:{fallbacks}
"""
    return litellm.litellm(folder, home, litellm.config(deployments, more))
