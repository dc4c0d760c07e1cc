"""Explanations of failed connections."""

from app.domain.unreachable import Unreachable


def explain_unreachable(why: Unreachable, host: str, setting: str) -> tuple[str, str]:
    """Return two sentences: the problem and the next step.

    Args:
        host: the host, with its port if it has one.
        setting: the name of the setting that holds the host.
    """
    match why:
        case Unreachable.UNKNOWN_HOST:
            return f"The name {host} can't be looked up.", f"Check {setting}, and this machine's name server."
        case Unreachable.REFUSED:
            return f"Nothing takes connections at {host}.", f"Check {setting}, and any firewall on the way."
        case Unreachable.NO_TLS:
            return (
                f"{host} does not offer https that can be trusted.",
                f"Check {setting}, and whether a proxy replaces the certificate.",
            )
        case Unreachable.SILENT:
            return f"{host} can't be reached.", f"Check {setting}, and this machine's network: firewall, proxy."
