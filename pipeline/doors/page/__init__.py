"""The page of `recount serve`: what a person sees at `/`, rendered by the server.

`routes.py` has the views, `visits.py` who may see them, `sessions.py` what their cookies hold, and
`showing.py` how they are rendered. It computes nothing: numbers come from `pipeline/reads`, and
what is written goes through the same functions as at the other doors.
"""
