"""The line to the media server: registering, offers, assignments, job status."""
