"""A WSGI server for proxies: sockets, main loop, connections, threads and processes.

Of waitress it uses what is a part by itself: `Adjustments`, and the classes of a request and
of its WSGI task. `Request` (request_head.py) and `ApplicationTask` (application_task.py) are
subclasses; which members these override, and which they read, is in
tests/unit/server/test_waitress.py, which fails when a release of waitress renames one.
"""
