"""Business transactions across services: sagas with declared steps, and flows of declared reactions."""

from stranglerfig.sagas.choreography import Flow
from stranglerfig.sagas.declaring import Retry, Saga, call, step

__all__ = ["Flow", "Retry", "Saga", "call", "step"]
