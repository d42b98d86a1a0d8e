"""How work is spread: Ray Data, Ray Train, Ray tasks, MLflow."""
