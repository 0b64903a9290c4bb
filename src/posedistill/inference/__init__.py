"""Using a model: pictures, folders and videos in, keypoints and drawings out."""
