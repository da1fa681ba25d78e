"""The block ``data_readiness_configs``: reports on the clients' data before training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from appfl_gc.config.schema.block import Block, KwargsBlock, not_yet

WHY = "Data readiness reports are not built yet."


class PlotConfigs(Block):
    """Plots of the report."""

    class_distribution_plot: bool = not_yet("Samples of each class.", False, why=WHY)
    data_sample_plot: bool = not_yet("Some samples.", False, why=WHY)
    data_distribution_plot: bool = not_yet("Distribution of the values.", False, why=WHY)
    class_variance_plot: bool = not_yet("Variance in each class.", False, why=WHY)
    outlier_detection_plot: bool = not_yet("Outliers.", False, why=WHY)
    feature_correlation_plot: bool = not_yet("Correlation of features.", False, why=WHY)
    feature_statistics_plot: bool = not_yet("Statistics of features.", False, why=WHY)


class CombineConfigs(Block):
    """What is shown for all clients together."""

    feature_space_distribution: bool = not_yet("The clients' samples in one feature space.", False, why=WHY)


class CadremoduleConfigs(Block):
    """A module of your own that assesses and remedies data."""

    cadremodule_path: str | None = not_yet("Python file of the module.", why=WHY)
    cadremodule_name: str | None = not_yet("Class in the file.", why=WHY)
    cadremodule_kwargs: KwargsBlock = not_yet("Its keyword arguments.", {}, why=WHY, validate_default=True)
    remedy_action: bool = not_yet("Whether to apply its remedy.", False, why=WHY)


class DrMetrics(Block):
    """Metrics of the report."""

    aliases: ClassVar[Mapping[str, str]] = {
        "sparsity": "overall_sparsity",
        "outlier_propotion": "outlier_proportion",
    }

    class_imbalance: bool = not_yet("Imbalance of the classes.", False, why=WHY)
    sample_size: bool = not_yet("Number of samples.", False, why=WHY)
    num_classes: bool = not_yet("Number of classes.", False, why=WHY)
    data_shape: bool = not_yet("Shape of a sample.", False, why=WHY)
    completeness: bool = not_yet("Share of values that are there.", False, why=WHY)
    data_range: bool = not_yet("Least and greatest value.", False, why=WHY)
    overall_sparsity: bool = not_yet("Share of zeros.", False, why=WHY)
    variance: bool = not_yet("Variance of the values.", False, why=WHY)
    skewness: bool = not_yet("Skewness of the values.", False, why=WHY)
    entropy: bool = not_yet("Entropy of the values.", False, why=WHY)
    kurtosis: bool = not_yet("Kurtosis of the values.", False, why=WHY)
    class_distribution: bool = not_yet("Distribution of the classes.", False, why=WHY)
    brisque: bool = not_yet("Image quality without a reference.", False, why=WHY)
    total_variation: bool = not_yet("Total variation of images.", False, why=WHY)
    sharpness: bool = not_yet("Sharpness of images.", False, why=WHY)
    outlier_proportion: bool = not_yet("Share of outliers.", False, why=WHY)
    time_to_event_imbalance: bool = not_yet("Imbalance of times to event.", False, why=WHY)
    plot: PlotConfigs = not_yet("Plots.", PlotConfigs(), why=WHY)
    combine: CombineConfigs = not_yet("What is shown for all clients together.", CombineConfigs(), why=WHY)
    cadremodule_configs: CadremoduleConfigs | None = not_yet("A module of your own.", why=WHY)


class DataReadinessConfigs(Block):
    """Reports on the clients' data before training."""

    generate_dr_report: bool = not_yet("Switches the report on.", False, refused=(True,), why=WHY)
    output_dirname: str = not_yet("Directory of the report.", "./output", why=WHY)
    output_filename: str = not_yet("Name of the report.", "data_readiness_report", why=WHY)
    dr_metrics: DrMetrics = not_yet("What to report.", DrMetrics(), why=WHY)
