"""What trains: device, optimiser, schedule, checkpoints."""
