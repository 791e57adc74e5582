"""waitress, made fit for a proxy: its sockets, its loop, its connections, its threads."""
