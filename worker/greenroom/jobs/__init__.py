"""One process a room: warm ones waiting, one for each job, watched from boot to exit."""
