"""What the replicas have taken of the limits of the accounts, so that together they keep within them."""

from sqlalchemy import Connection, select, update

from app.domain.rate_limit.share import ShareGrant, ShareRequest, Taken, allocate
from app.store.database.dialect import lock_row
from app.store.database.engine import Database
from app.store.database.statements import insert_or_nothing
from app.store.schema import budgets

_COLUMNS = [budgets.c[name] for name in Taken._fields]


class SharedLimits:
    """The shared budgets of all accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, account: str, endpoint: str, request: ShareRequest) -> ShareGrant:
        """What a replica gets of an account's limit for an endpoint, such as `POST user`. What it does not use is lost
        with the minute.
        """
        return await self._database.write(lambda connection: _take(connection, account, endpoint, request))


def _take(connection: Connection, account: str, endpoint: str, request: ShareRequest) -> ShareGrant:
    of_endpoint = (budgets.c.account == account) & (budgets.c.endpoint == endpoint)
    statement = lock_row(select(*_COLUMNS).where(of_endpoint))
    row = connection.execute(statement).one_or_none()
    if row is None:
        connection.execute(insert_or_nothing(connection, budgets), [{"account": account, "endpoint": endpoint}])
        row = connection.execute(statement).one()
    taken, grant = allocate(Taken(*row), request)
    connection.execute(update(budgets).where(of_endpoint).values(taken._asdict()))
    return grant
