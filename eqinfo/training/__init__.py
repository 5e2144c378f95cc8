"""What both trainings share: the loop, checkpoints, devices, run folders. It knows no model."""
