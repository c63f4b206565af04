"""Launchers of studies: this machine, a SLURM cluster (submitit), a Ray cluster."""
