"""Diagnose what balancing would change for a model."""

from gradbalance.diagnosis.findings import Diagnosis
from gradbalance.diagnosis.look import diagnose

__all__ = ["Diagnosis", "diagnose"]
