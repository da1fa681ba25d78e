"""Base classes for aggregators and schedulers that users wrote with ``aggregate`` or ``schedule`` methods."""

from __future__ import annotations

from typing import Any


class BaseAggregator:
    """Base of a user's aggregator that takes whole models.

    A subclass defines ``aggregate(local_models, **kwargs)``, which takes a dict from client id to that
    client's tensors by name and returns the new global model as such a dict. It may define
    ``get_parameters``.
    """

    def __init__(
        self, model: Any = None, aggregator_configs: Any = None, logger: Any = None, **kwargs: Any
    ) -> None:
        self.model = model
        self.aggregator_configs = aggregator_configs
        self.logger = logger
        self.client_sample_size: dict[str, int] = {}

    def aggregate(self, *args: Any, **kwargs: Any) -> Any:
        """The new global model; a subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} does not define aggregate().")

    def get_parameters(self, **kwargs: Any) -> Any:
        """The global model's tensors by name; a subclass without a ``model`` defines it."""
        if self.model is None:
            raise NotImplementedError(f"{type(self).__name__} has no model and no get_parameters().")
        return self.model.state_dict()

    def set_client_sample_size(self, client_id: str, sample_size: int) -> None:
        """Hear how many training samples a client has."""
        # A subclass need not have called our constructor.
        self.__dict__.setdefault("client_sample_size", {})[client_id] = sample_size


class BaseScheduler:
    """Base of a user's scheduler with ``schedule(client_id, local_model, **kwargs)``.

    It can be imported and derived from, so that a file which holds such a class loads; running one is not
    supported yet.
    """

    def __init__(self, scheduler_configs: Any = None, aggregator: Any = None, logger: Any = None) -> None:
        self.scheduler_configs = scheduler_configs
        self.aggregator = aggregator
        self.logger = logger

    def schedule(self, client_id: str, local_model: Any, **kwargs: Any) -> Any:
        """What to do with a client's update; a subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} does not define schedule().")

    def get_num_global_epochs(self) -> int:
        """How many global epochs are done; a subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} does not define get_num_global_epochs().")
