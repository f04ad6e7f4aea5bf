import importlib

from marco_data.generation.generator import Completion


class S:
    def __init__(self, f):
        self.f = f

    async def complete(self, r):
        a = self.f(r)
        return a if isinstance(a, Completion) else Completion(a, "stop", len(r.messages[0][1]) // 4, len(a) // 4)

    async def close(self): ...


def open_generator(pool, model, revision, context):
    m, _, f = pool.script.partition(":")
    return S(getattr(importlib.import_module(m), f))
