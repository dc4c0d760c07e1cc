"""The parts that serve one Sailthru account. `main` builds them for each authorization in the settings."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from app.delivery.circuit_breaker import CircuitBreaker
from app.delivery.deliver import Deliverer
from app.delivery.loop import AccountLoop
from app.domain.account import AccountReport
from app.domain.destination import Destination, ListMaker


@dataclass(frozen=True, slots=True)
class Account:
    """One Sailthru account.

    Args:
        base_url: the address of its Sailthru API.
        calls_left: calls that may leave now within our share of the limit, by names such as `POST user`.
        close: closes the connections.
    """

    label: str
    base_url: str
    destination: Destination
    list_maker: ListMaker
    breaker: CircuitBreaker
    deliverer: Deliverer
    loop: AccountLoop
    calls_left: Callable[[], Mapping[str, int]]
    close: Callable[[], Awaitable[None]]

    @property
    def state(self) -> str:
        """`running`, or the reason why the circuit breaker is open: `refused` or `outage`."""
        reason = self.breaker.state.open_reason
        return "running" if reason is None else reason.value

    def report(self) -> AccountReport:
        """Return the account without its secrets."""
        return AccountReport(self.label, self.base_url, self.breaker.state, self.calls_left())
