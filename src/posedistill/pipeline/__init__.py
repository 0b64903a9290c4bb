"""All that knows the project: prepared/, models/, reports/, params.yaml and DVC."""
