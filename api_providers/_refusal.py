"""How the filters behind a reseller word a refusal, for resellers that pass the sentence on and no code.

The sentence is all there is to go by (unverified for each vendor). Wording that is not known here is an ordinary failure:
the job may then be tried elsewhere, which costs a second attempt but loses nothing.
"""

import re

_REFUSED = re.compile(
    r"sensitive|moderation|nsfw|risk control|community guidelines|prohibited|inappropriate"
    r"|content (polic|security|filter)|flagged|(safety|usage) polic",
    re.IGNORECASE,
)


def refused_content(text: str) -> bool:
    """Whether a failure's sentence says that prompt, input or result was not allowed."""
    return _REFUSED.search(text) is not None
