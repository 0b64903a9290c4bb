"""Where persons come from: annotation files, detections, videos, pictures without labels."""
