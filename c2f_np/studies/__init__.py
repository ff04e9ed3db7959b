"""Studies: settings x seeds, carried out side by side, resumable, with honest statistics and a report (docs/studies.md)."""

from .choices import with_choices
from .jobs import Job, jobs_of
from .kinds import KINDS
from .parallel import Options
from .reading import read_study, ready_studies
from .runner import Done, load_sources, run_study
from .study import Run, Source, Study

__all__ = [
    "KINDS",
    "Done",
    "Job",
    "Options",
    "Run",
    "Source",
    "Study",
    "jobs_of",
    "load_sources",
    "read_study",
    "ready_studies",
    "run_study",
    "with_choices",
]
