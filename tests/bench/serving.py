"""Run the baseline with the server and the flags of the service: `python -m tests.bench.serving PORT`."""

import sys

import uvicorn

from app.__main__ import server_config
from tests.bench.baseline import app

if __name__ == "__main__":
    uvicorn.Server(server_config(app, host="127.0.0.1", port=int(sys.argv[1]), forwarded_allow_ips="127.0.0.1")).run()
