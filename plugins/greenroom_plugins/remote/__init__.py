"""What the plugins of remote vendors share: connections, and how a vendor's failure is told."""
