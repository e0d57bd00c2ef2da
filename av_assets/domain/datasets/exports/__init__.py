"""Frozen datasets in the formats that other tools read: COCO, nuScenes, KITTI.

Belongs here: formats, and the conversions of coordinates that they ask for. Does not belong here: finding datasets in a
lake, labels that people hand back (`labels.exchange`).
"""
