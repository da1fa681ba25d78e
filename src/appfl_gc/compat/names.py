"""Which ``appfl`` names a user's file may import, and what to use in place of the others."""

from __future__ import annotations

_PARTITION = "appfl_gc.site.data.partition"
_TRAINER = "appfl.algorithm.trainer"
_AGGREGATOR = "appfl.algorithm.aggregator"
_SCHEDULER = "appfl.algorithm.scheduler"
_BASE_TRAINER = "appfl_gc.site.trainer.base:BaseTrainer"
_VANILLA_TRAINER = "appfl_gc.site.trainer.vanilla:VanillaTrainer"
_BASE_AGGREGATOR = "appfl_gc.compat.bases:BaseAggregator"
_BASE_SCHEDULER = "appfl_gc.compat.bases:BaseScheduler"

PROVIDED = {
    "appfl.misc.data.Dataset": f"{_PARTITION}:Dataset",
    "appfl.misc.data.iid_partition": f"{_PARTITION}:iid_partition",
    "appfl.misc.data.class_noniid_partition": f"{_PARTITION}:class_noniid_partition",
    "appfl.misc.data.dirichlet_noniid_partition": f"{_PARTITION}:dirichlet_noniid_partition",
    f"{_TRAINER}.BaseTrainer": _BASE_TRAINER,
    f"{_TRAINER}.base_trainer.BaseTrainer": _BASE_TRAINER,
    f"{_TRAINER}.VanillaTrainer": _VANILLA_TRAINER,
    f"{_TRAINER}.vanilla_trainer.VanillaTrainer": _VANILLA_TRAINER,
    f"{_AGGREGATOR}.BaseAggregator": _BASE_AGGREGATOR,
    f"{_AGGREGATOR}.base_aggregator.BaseAggregator": _BASE_AGGREGATOR,
    f"{_SCHEDULER}.BaseScheduler": _BASE_SCHEDULER,
    f"{_SCHEDULER}.base_scheduler.BaseScheduler": _BASE_SCHEDULER,
}
"""An ``appfl`` name, and the ``module:name`` of this package that it stands for."""

_INSTEAD = {
    "appfl.agent": "Agents are not needed: appfl_gc.run(server_config, client_config) does the whole run.",
    "appfl.comm": "appfl_gc.run(server_config, client_config) does the communication too.",
    "appfl.config": "Use appfl_gc.config.load(server_config, client_config); the YAML files stay the same.",
    "appfl.run_globus_compute_server": "Use appfl_gc.run(server_config, client_config).",
    "appfl.misc.data": "Of this module there are Dataset, iid_partition, class_noniid_partition and "
    "dirichlet_noniid_partition; write another partition in your dataset file.",
    "appfl.misc": "It has no replacement; write what you need of it in your own file.",
    "appfl.algorithm.trainer": "The trainers to derive from are BaseTrainer and VanillaTrainer.",
    "appfl.algorithm.aggregator": "The one to derive from is BaseAggregator; the others are chosen by name "
    "with server_configs.aggregator.",
    "appfl.algorithm.scheduler": "Schedulers are chosen by name with server_configs.scheduler.",
    "appfl.compressor": "Compression is configured with comm_configs.compressor_configs.",
    "appfl.privacy": "Privacy is configured with train_configs.",
}


def replacement(name: str) -> str:
    """A sentence that says what to use in place of the ``appfl`` name, or that there is nothing."""
    parts = name.split(".")
    for length in range(len(parts), 1, -1):
        sentence = _INSTEAD.get(".".join(parts[:length]))
        if sentence is not None:
            return sentence
    return "It has no replacement."
