"""Web frameworks and task queues, one module each. None is imported until it is asked for."""
