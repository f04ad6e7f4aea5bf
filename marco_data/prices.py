"""What things cost where a build runs: a file of prices beside the recipe, never part of identity.

In: `prices.yaml`. Out: checked `Prices`; a mistake is told with file, line and key. Knows nothing of what is bought.
"""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from marco_data.yaml_lines import explain, read_yaml

Money = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Prices(BaseModel):
    """In `currency`, whichever it is; what is left out costs nothing that is known, and the sum says so.

    `cpu_core_hour`: of one core; `gpu_hour`: where the pool of a generator names no price; `disk_tb_month`: of 10^12
    bytes, kept for `months`; requests by the million; `egress_tb`: of what the sources send.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    cpu_core_hour: Money | None = None
    gpu_hour: Money | None = None
    disk_tb_month: Money | None = None
    months: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    write_requests_million: Money | None = None
    read_requests_million: Money | None = None
    egress_tb: Money | None = None


def load_prices(path: Path) -> Prices:
    """Raises RecipeError that names file, line and key of all that is wrong."""
    values, lines = read_yaml(path, a="price file", hint="give --prices FILE; infra/prices.yaml is an example")
    try:
        return Prices.model_validate(values)
    except ValidationError as error:
        raise explain(error, Prices, path, {key: (path, line) for key, line in lines.items()}) from None
