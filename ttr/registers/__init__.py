"""The method: find register neurons, move them onto test-time registers, and the arms of an experiment."""
