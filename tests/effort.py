"""How hard Hypothesis tries: `HYPOTHESIS_PROFILE=thorough` for minutes, `quick` for every run.

`quick` tries the same examples everywhere, so that what fails on one machine fails on all. A test
that is worth more than others multiplies what the profile says.
"""

import os

from hypothesis import settings


def load_profile() -> None:
    """Set what this run is to spend, before any test is imported."""
    settings.register_profile("quick", max_examples=15, deadline=None, derandomize=True)
    settings.register_profile("thorough", max_examples=5_000, deadline=None, print_blob=True)
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
