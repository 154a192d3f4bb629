"""The deployment: made by `recount init`, checked by everybody."""
