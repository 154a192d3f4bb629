"""The fold: records of the log to a plan, in Python and, for plain events, in Rust."""
