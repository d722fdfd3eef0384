"""Business transactions across services: sagas, orchestrated by declared steps."""

from stranglerfig.sagas.declaring import Retry, Saga, call, step

__all__ = ["Retry", "Saga", "call", "step"]
