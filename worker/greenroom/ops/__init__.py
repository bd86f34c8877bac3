"""What an operator looks at: logs, health, metrics."""
