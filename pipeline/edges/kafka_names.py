"""What the topics and the group of a deployment are called."""


def topic_names(deployment: str) -> dict[str, str]:
    """Return the names of the three topics that a deployment stands on."""
    prefix = "" if deployment == "default" else f"{deployment}."
    return {
        "events": f"{prefix}usage.events",
        "control": f"{prefix}metrics.control",
        "rejected": f"{prefix}usage.rejected",
    }


def request_names(deployment: str) -> dict[str, str]:
    """Return the names of the topics by which definitions are changed; no number is on them."""
    prefix = "" if deployment == "default" else f"{deployment}."
    return {role: f"{prefix}metrics.{role}" for role in ("requests", "results", "catalogue")}


def group_name(deployment: str) -> str:
    """Return the name of the group that a deployment's workers form."""
    return f"{deployment}.recount"
