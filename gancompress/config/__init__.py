"""Options: sections with types and ranges, read from YAML files."""

from gancompress.config.loading import build, differences, dump_options, load_options
from gancompress.config.schema import (
    CompressOptions,
    DataOptions,
    DiscriminatorOptions,
    DistillLossOptions,
    FinetuneOptions,
    GeneratorOptions,
    LogOptions,
    SamplingOptions,
    ScheduleOptions,
    SearchOptions,
    Section,
    StudentOptions,
    SupernetOptions,
    TeacherLossOptions,
    TeacherOptions,
    TeacherSource,
)

__all__ = [
    "CompressOptions",
    "DataOptions",
    "DiscriminatorOptions",
    "DistillLossOptions",
    "FinetuneOptions",
    "GeneratorOptions",
    "LogOptions",
    "SamplingOptions",
    "ScheduleOptions",
    "SearchOptions",
    "Section",
    "StudentOptions",
    "SupernetOptions",
    "TeacherLossOptions",
    "TeacherOptions",
    "TeacherSource",
    "build",
    "differences",
    "dump_options",
    "load_options",
]
