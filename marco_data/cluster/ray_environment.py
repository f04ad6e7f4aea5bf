"""What this project asks of Ray through the environment, said before any part of it is imported or started.

Knows neither clusters nor jobs, and does not import Ray.
"""

import os

AUTH_MODE = "RAY_AUTH_MODE"

ASKED = {
    # Ray 2.60 turns token authentication on in some orders of starting and not in others; say which is meant.
    AUTH_MODE: "disabled",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # For ever by default; a death is the driver's to count.
    "RAY_task_oom_retries": "0",
    # On a busy machine its helpers take longer to come up than a raylet waits before it gives itself up.
    "RAY_agent_register_timeout_ms": "120000",
}


def set_ray_environment() -> None:
    """Set what is not set: a cluster whose authentication is on says RAY_AUTH_MODE=token itself."""
    for name, value in ASKED.items():
        os.environ.setdefault(name, value)


def ray_environment() -> dict[str, str]:
    """The same for a job's processes, as this process has it; of no value is a secret."""
    set_ray_environment()
    return {name: os.environ[name] for name in ASKED}
