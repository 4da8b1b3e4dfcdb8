"""Recipes: functions that return one frozen, checked configuration. Only scripts import them."""
