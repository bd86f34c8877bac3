"""What ``greenroom dev`` and ``greenroom call --embedded`` bring along: a media server and the page."""
