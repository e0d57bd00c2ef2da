"""What sensors show of one moment: objects of a sweep, detections in a picture, the ground, what hides what."""
