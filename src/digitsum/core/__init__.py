"""Used by every stage: errors, files, parameters, what dvc.yaml declares, numerics, the runner."""
