"""The models that KAEM is compared with; they share its decoders and nothing else."""
