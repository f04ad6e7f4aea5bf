"""What generation costs beside the engine or server it asks: throughput and processor time of our part."""
