"""The blocks ``data_configs`` of a client and ``val_data_configs`` of the server."""

from __future__ import annotations

from appfl_gc.config.schema.block import Block, KwargsBlock, key


class DataConfigs(Block):
    """A client's data."""

    dataset_path: str = key(
        "Python file with the dataset function, on the server's machine, or `site:NAME`.", "", required=True
    )
    dataset_name: str | None = key(
        "Function in `dataset_path` that returns `(train, validation)`; the last function if left out."
    )
    dataset_kwargs: KwargsBlock = key("Keyword arguments of the dataset function.", {}, validate_default=True)


class ValDataConfigs(Block):
    """The server's test data. The block switches validation of the global model on."""

    dataset_path: str = key("Python file with the dataset function.", "", required=True)
    dataset_name: str | None = key(
        "Function that returns a dataset; the last function of the file if left out."
    )
    dataset_kwargs: KwargsBlock = key("Keyword arguments of the dataset function.", {}, validate_default=True)
    batch_size: int = key("Samples in a batch.", 1, ge=1)
    shuffle: bool = key("Shuffle the data.", False)
    num_workers: int = key("Worker processes of the data loader.", 0, ge=0)
