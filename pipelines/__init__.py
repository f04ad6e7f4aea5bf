"""What is run: one short function a pipeline, from a recipe to a plan. Nothing here touches data."""
