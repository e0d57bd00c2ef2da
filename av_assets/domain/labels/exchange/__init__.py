"""Files that labelling tools read and write: COCO, CVAT for images, Label Studio.

Belongs here: formats. Does not belong here: judging what people drew (`..review`), talking to a server (resources).
"""
