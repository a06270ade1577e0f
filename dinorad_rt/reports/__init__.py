"""Results as files, tables and pages."""
