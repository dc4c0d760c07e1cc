"""
Audience: a group of people in Lytics (on its wire: a segment), and the one place that spells its Sailthru list.
"""

from dataclasses import dataclass

LONGEST_LIST_NAME = 120


@dataclass(frozen=True, slots=True)
class Audience:
    """
    One audience as Lytics describes it. The id stays; slug and name are labels that people may change.

    Args:
        size: how many people are in it; None where Lytics was not asked or does not say.
    """

    id: str
    slug: str
    name: str
    size: int | None = None


def list_name(audience_name: str) -> str:
    """
    The Sailthru list of an audience: "Lytics " and its name, as Lytics' own Sailthru export spells it.

    Made legal for Sailthru: `$` is not allowed in a list name and becomes `-`; no space at either end; cut at 120
    characters, since Sailthru's own limit is not published.
    https://getstarted.meetmarigold.com/engagebysailthru/Content/audience/managing-lists/natural-lists.html
    """
    return f"Lytics {audience_name.strip()}".replace("$", "-")[:LONGEST_LIST_NAME].rstrip()
