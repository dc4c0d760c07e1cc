"""Deletes memberships, and members that have none left."""

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import Connection, and_, bindparam, delete, exists, select

from app.store.members.rows import parts
from app.store.schema import identities, journal, members, memberships


class Place(NamedTuple):
    """The key of a membership."""

    member_id: int
    export_id: int


def remove(connection: Connection, places: Collection[Place]) -> None:
    """Delete memberships, and members that have none left."""
    if not places:
        return
    connection.execute(
        delete(memberships).where(
            and_(memberships.c.member_id == bindparam("b_member"), memberships.c.export_id == bindparam("b_export"))
        ),
        [{"b_member": member_id, "b_export": export_id} for member_id, export_id in sorted(places)],
    )
    remove_empty(connection, {place.member_id for place in places})


def remove_empty(connection: Connection, member_ids: Collection[int]) -> None:
    """Delete the given members that have neither a membership nor a Lytics user, and their timelines."""
    for part in parts(sorted(member_ids)):
        found = connection.scalars(
            select(members.c.id).where(
                members.c.id.in_(part),
                ~exists().where(memberships.c.member_id == members.c.id),
                ~exists().where(identities.c.member_id == members.c.id),
            )
        )
        empty = list(found)
        connection.execute(delete(journal).where(journal.c.member_id.in_(empty)))
        connection.execute(delete(members).where(members.c.id.in_(empty)))


def remove_erased(connection: Connection, member_ids: Collection[int]) -> None:
    """Delete memberships of these members whose erasure has ended: they are erased and not pending."""
    ended: list[Place] = []
    for part in parts(sorted(member_ids)):
        found = connection.execute(
            select(memberships.c.member_id, memberships.c.export_id).where(
                memberships.c.member_id.in_(part),
                memberships.c.erasure.is_not(None),
                memberships.c.revision <= memberships.c.confirmed_revision,
            )
        )
        ended += [Place(row.member_id, row.export_id) for row in found]
    remove(connection, ended)
