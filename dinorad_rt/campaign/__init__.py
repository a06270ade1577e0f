"""A study in one file: models × datasets × protocols × seeds, planned, run, resumed, reported."""

from __future__ import annotations

from dinorad_rt.campaign.run import StudyOutcome, run_study
from dinorad_rt.campaign.study import Study, list_studies, read_study_file

__all__ = ["Study", "StudyOutcome", "list_studies", "read_study_file", "run_study"]
