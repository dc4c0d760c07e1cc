"""What a list must hold in the end: the rule for one Lytics user in one audience, written a second time."""

from dataclasses import dataclass, field

# An enter or exit: event time, message time, whether it was an enter; the greater one is the newer.
Moment = tuple[int, int, bool]


@dataclass
class Stay:
    """One user in one audience, after all messages so far, each once or several times, in any order.

    Args:
        last: the newest move, None before the first.
        address: the address on the list; None while out.
        fields_at, fields: the newest fields of this stay at this address.
    """

    last: Moment | None = None
    address: str | None = None
    fields_at: int = 0
    fields: dict[str, object] = field(default_factory=dict)

    def enter(self, address: str, *, at: int, message: int, fields: dict[str, object]) -> None:
        is_newer = self.last is None or (at, message, True) > self.last
        if is_newer:
            self.last = (at, message, True)
            if address != self.address:
                self.address, self.fields_at, self.fields = address, 0, {}
        if self.address == address and message > self.fields_at:
            self.fields_at, self.fields = message, fields

    def exit(self, *, at: int, message: int) -> None:
        """Apply an exit, under any address."""
        if self.last is None or (at, message, False) > self.last:
            self.last = (at, message, False)
            self.address, self.fields_at, self.fields = None, 0, {}

    def change(self, address: str, *, message: int, fields: dict[str, object]) -> None:
        """Apply a change of fields, maybe of the address; without effect while the user is out."""
        if self.address is None or self.last is None or message <= self.fields_at:
            return
        if address != self.address:
            if message <= self.last[1]:
                return
            self.last = (self.last[0], message, True)
        self.address, self.fields_at, self.fields = address, message, fields
