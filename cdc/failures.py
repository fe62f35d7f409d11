"""The turns of a daemon that have failed: what each means, what is told of it, when to try again.

An exception is judged by `backoff`. What that cannot know is added here: whom we have worked with,
and for how long nothing has been achieved any more.
"""

import logging
from time import monotonic

from cdc.backoff import Verdict, delays, described, judge, untrusted
from cdc.errors import CdcError, TargetAway
from cdc.vitals import Phase, Vitals

log = logging.getLogger(__name__)


class Failures:
    """Those since the last turn that achieved something."""

    def __init__(self, vitals: Vitals, *, patience_s: float | None) -> None:
        """`patience_s`: for how long they may go on; None: for ever."""
        self._vitals = vitals
        self._patience_s = patience_s
        self._delays, self._since = delays(), monotonic()

    def forget(self) -> None:
        """Begin to count anew: something was achieved, or all is different now."""
        self._delays, self._since = delays(), monotonic()

    def note(self, error: BaseException, *, of_source: bool, stopping: bool) -> None:
        """Tell that a turn has failed, by the source or by the target, and what is tried again."""
        vitals = self._vitals
        vitals.problem = described(error)
        vitals.hint = error.hint if isinstance(error, CdcError) else ""
        if not stopping:
            vitals.phase = Phase.WAITING
        if of_source and not isinstance(error, TargetAway):
            vitals.source_answers = False

    def delay_s(self, error: Exception) -> float:
        """Return how long to wait before the next turn; raise the error once patience is over."""
        if self._patience_s is not None and monotonic() - self._since > self._patience_s:
            raise error
        delay = next(self._delays)
        extra = {"error": described(error), "delay_s": round(delay, 2)}
        log.warning("trying again", extra=extra)
        return delay


def hopeless(error: BaseException, *, worked_before: bool) -> bool:
    """Tell whether to try again cannot help.

    A server that we have worked with may be trusted again, as its certificate is mended; one that
    was never trusted is a DSN to be mended, which we would read no more.
    """
    if not worked_before and untrusted(error) is not None:
        return True
    return judge(error) is not Verdict.RETRY
