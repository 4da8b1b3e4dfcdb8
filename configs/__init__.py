"""Recipes: functions that return one frozen, checked configuration. Imported by the scripts only."""
