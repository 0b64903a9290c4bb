"""Where persons come from: annotation files, detections, pictures and videos, with or without labels."""
