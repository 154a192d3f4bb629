"""`recount serve`: the doors over HTTP. It keeps no state: any number of servers can run."""
