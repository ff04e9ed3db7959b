"""Studies: settings x seeds, carried out side by side, resumable, with honest statistics and a report (docs/studies.md)."""

from .jobs import Job, jobs_of, with_choices
from .parallel import Options
from .runner import Done, run_study
from .study import Run, Source, Study
from .study_file import read_study, ready_studies

__all__ = ["Done", "Job", "Options", "Run", "Source", "Study"]
__all__ += ["jobs_of", "read_study", "ready_studies", "run_study", "with_choices"]
