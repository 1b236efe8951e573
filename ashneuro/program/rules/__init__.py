"""Rules on graphs and programs: functions whose docstrings are shown to users."""
