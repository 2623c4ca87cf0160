"""How often: by the clock or by steps."""

import re
import time

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_FORM = re.compile(r"(\d+(?:\.\d+)?)\s*(s(?:ec(?:ond)?s?)?|m(?:in(?:ute)?s?)?|h(?:ours?)?|steps?)?")


class Interval:
    """Says after which steps something is due that is done now and then."""

    def __init__(self, text: str, key: str = "the interval") -> None:
        """
        Args:
            text: such as '10m', '90s', '1h', '200 steps'; a bare number is minutes; '0' and ''
                are never.
            key: what messages call it.

        Raises:
            ValueError: `text` is nothing of that kind.
        """
        match = _FORM.fullmatch(text.strip().lower() or "0")
        counts_steps = bool(match and (match[2] or "").startswith("step"))
        if not match or (counts_steps and not match[1].isdigit()):
            raise ValueError(
                f"{key} is {text!r}; allowed are a time such as 10m, 90s or 1h (a bare number is "
                "minutes), a number of steps such as '200 steps', and 0 for never"
            )
        number = float(match[1])
        every = float("inf") if number == 0 else number
        self._steps = every if counts_steps else float("inf")
        unit = (match[2] or "m")[0]
        self._seconds = float("inf") if counts_steps else every * _SECONDS[unit]
        self.restart()

    @property
    def never(self) -> bool:
        """Whether it is never due."""
        return self._steps == self._seconds == float("inf")

    def restart(self) -> None:
        """Count from now."""
        self._done = 0
        self._next = time.monotonic() + self._seconds

    def due(self, steps: int = 1) -> bool:
        """Say after `steps` more whether the time has come, or the number of steps."""
        self._done += steps
        return self._done >= self._steps or time.monotonic() >= self._next
