"""Shares the rate limits of accounts among replicas."""

from sqlalchemy import Connection, select, update

from app.domain.rate_limit.share import ShareGrant, ShareRequest, Taken, allocate
from app.store.database.dialect import lock_row
from app.store.database.engine import Database
from app.store.database.statements import insert_or_nothing
from app.store.schema import budgets

_COLUMNS = [budgets.c[name] for name in Taken._fields]


class SharedLimits:
    """The shared rate limits of all accounts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, account: str, endpoint: str, request: ShareRequest) -> ShareGrant:
        """Return the grant for a request to an account's limit.

        Granted calls that are not used are lost at the end of the minute.

        Args:
            endpoint: method and endpoint, such as `POST user`.
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
