"""What a list must hold in the end, in other words than the service's own: one Lytics user in one audience."""

from dataclasses import dataclass, field

Moment = tuple[int, int, bool]
"""
When a user entered or left: event time, message time, whether it was an enter; the greater one is the newer.
"""


@dataclass
class Stay:
    """What was told so far of one user in one audience, each message once or several times, in any order.

    Args:
        last: the newest move, None before the first.
        address: that is on the list; None while out.
        fields_at, fields: the newest fields told of this stay at this address.
    """

    last: Moment | None = None
    address: str | None = None
    fields_at: int = 0
    fields: dict[str, object] = field(default_factory=dict)

    def enter(self, address: str, *, at: int, message: int, fields: dict[str, object]) -> None:
        """The user entered."""
        is_newer = self.last is None or (at, message, True) > self.last
        if is_newer:
            self.last = (at, message, True)
            if address != self.address:
                self.address, self.fields_at, self.fields = address, 0, {}
        if self.address == address and message > self.fields_at:
            self.fields_at, self.fields = message, fields

    def exit(self, *, at: int, message: int) -> None:
        """The user left, under whichever address."""
        if self.last is None or (at, message, False) > self.last:
            self.last = (at, message, False)
            self.address, self.fields_at, self.fields = None, 0, {}

    def change(self, address: str, *, message: int, fields: dict[str, object]) -> None:
        """A field changed, maybe the address, of a user who is in the audience; else it means nothing."""
        if self.address is None or self.last is None or message <= self.fields_at:
            return
        if address != self.address:
            if message <= self.last[1]:
                return
            self.last = (self.last[0], message, True)
        self.address, self.fields_at, self.fields = address, message, fields
