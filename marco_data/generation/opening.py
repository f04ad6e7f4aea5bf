"""Opens the generator that a pool describes.

In: a pool, and which model the recipe asks for. Out: a `Generator`, to be closed by whoever opened it. Imports a kind
only when it is opened: an engine's process has no HTTP client and a worker no engine.
"""

from marco_data.generation.generator import Generator
from marco_data.generation.pools import EndpointPool, Pool, VllmPool


def open_generator(pool: Pool, model: str, revision: str, context: int) -> Generator:
    """`context` is the tokens that a prompt and its answer may have together.

    An endpoint's server knows its own context and revision: neither can be asked of it.
    """
    if isinstance(pool, EndpointPool):
        from marco_data.generation.endpoint import Endpoint

        return Endpoint(pool, model)
    if isinstance(pool, VllmPool):
        from marco_data.generation.ray_pool import open_pool

        return open_pool(pool, model, revision, context)
    from marco_data.generation.scripted import Scripted, load_script

    return Scripted(load_script(pool.script), pool.delay)
