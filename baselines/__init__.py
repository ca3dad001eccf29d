"""The models that KAEM is compared with; they share its generators' networks and nothing else."""
