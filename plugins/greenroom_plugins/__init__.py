"""The plugins that come with greenroom: one module or package for each vendor, found by its entry point."""
