"""A clip as a Rerun recording (`.rrd`): cameras with boxes, lidar and radar around the vehicle, signals, the way.

Belongs here: what becomes which entity. Does not belong here: reading shards (sync/exporters/clips) or labels
(overlay).
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from av_assets.domain.privacy.frames import RedactedFrame
    from av_assets.domain.sync.exporters.clips import Clip, Shards
    from av_assets.domain.viewing.overlay import Overlay

APPLICATION = "av-assets clip"
TIMELINE = "time"
# Made from the clip's name, so that the same clip opened twice is one recording to the viewer.
_NAMESPACE = uuid.UUID("6f0a3c5e-2a63-5a0e-9d7c-6f1f5b0d8a11")
_MEDIA = {"jpeg": "image/jpeg", "png": "image/png"}
_RADAR_Z_M = 0.5
_VELOCITY_S = 0.5  # an arrow reaches as far as the object moves in this time
_MAX_POINTS = 200_000


def write_rrd(shards: Shards, clip: Clip, overlay: Overlay, out: Path) -> None:
    """Write one clip to `out`; pictures are the redacted ones of the shard, encoded as they are.

    Raises:
        SyncError: bad_shard.
        OSError: `out` cannot be written.
    """
    import rerun as rr

    name = str(clip.table["clip_id"][0].as_py())
    stream = rr.RecordingStream(APPLICATION, recording_id=uuid.uuid5(_NAMESPACE, name))
    stream.save(out, default_blueprint=_blueprint(shards, clip))
    writer = _Writer(stream, shards, clip, overlay)
    writer.static(name)
    writer.cameras()
    writer.lidars()
    writer.radars()
    writer.signals()
    writer.events()
    stream.flush()
    stream.disconnect()


def _blueprint(shards: Shards, clip: Clip) -> Any:
    import rerun.blueprint as rrb

    pictures = [rrb.Spatial2DView(origin=f"ego/{role}", name=role) for role in shards.of("camera")]
    plots = [
        rrb.TimeSeriesView(origin=f"signals/{name}", name=name)
        for name in ("speed_mps", "accel_mps2", "yaw_rate_radps")
        if name in clip.signals()
    ]
    words = [rrb.TextDocumentView(origin="description"), rrb.TextLogView(origin="events")]
    left = rrb.Vertical(*(pictures or words[:1]))
    middle = rrb.Vertical(rrb.Spatial3DView(origin="ego", name="around the vehicle"), *words)
    columns = [left, middle, rrb.Vertical(*plots)] if plots else [left, middle]
    return rrb.Blueprint(rrb.Horizontal(*columns), collapse_panels=True)


class _Writer:
    def __init__(self, stream: Any, shards: Shards, clip: Clip, overlay: Overlay) -> None:
        import rerun as rr

        self.rr, self.stream = rr, stream
        self.shards, self.clip, self.overlay = shards, clip, overlay
        self.ref_ns = clip.numbers("ref_ns")

    def at(self, ns: int) -> None:
        self.stream.set_time(TIMELINE, timestamp=np.datetime64(int(ns), "ns"))

    def static(self, name: str) -> None:
        rr, calibration = self.rr, self.shards.calibration
        text = f"# {name}\n\n{self.overlay.description or 'No description.'}\n\nAll pictures are redacted."
        self.stream.log("description", rr.TextDocument(text, media_type="text/markdown"), static=True)
        self.stream.log("ego", rr.ViewCoordinates.FLU, static=True)
        cameras = calibration.cameras if calibration else {}
        for role in self.shards.of("camera"):
            if (camera := cameras.get(role)) is not None:
                pose = np.asarray(camera.ego_SE3_camera)
                self.stream.log(
                    f"ego/{role}",
                    rr.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]),
                    rr.Pinhole(
                        image_from_camera=np.asarray(camera.K),
                        resolution=[camera.width, camera.height],
                        camera_xyz=rr.ViewCoordinates.RDF,
                    ),
                    static=True,
                )

    def cameras(self) -> None:
        for role in self.shards.of("camera"):
            last_ns = -1
            for row, frame in enumerate(self.clip.frames(role)):
                if frame is None or frame.sensor_ns == last_ns:
                    continue
                last_ns = frame.sensor_ns
                self.at(self.ref_ns[row])
                self._picture(role, frame)
                self._boxes(role, int(self.ref_ns[row]))

    def _picture(self, role: str, frame: RedactedFrame) -> None:
        # Video units go in decoded: a viewer needs the codec's whole history, a clip has none.
        media = _MEDIA.get(frame.encoding)
        if media is not None:
            shown = self.rr.EncodedImage(contents=frame.data, media_type=media)
        else:
            shown = self.rr.Image(frame.pixels()).compress(jpeg_quality=85)
        self.stream.log(f"ego/{role}", shown)

    def _boxes(self, role: str, ref_ns: int) -> None:
        boxes = self.overlay.boxes.get((role, ref_ns), ())
        path = f"ego/{role}/boxes"
        if not boxes:
            if self.overlay.boxes:
                self.stream.log(path, self.rr.Clear(recursive=False))
            return
        self.stream.log(
            path,
            self.rr.Boxes2D(
                array=np.array([box[2:6] for box in boxes]),
                array_format=self.rr.Box2DFormat.XYXY,
                labels=[box.caption for box in boxes],
                colors=[box.colour for box in boxes],
            ),
        )

    def lidars(self) -> None:
        calibration = self.shards.calibration
        for role in self.shards.of("lidar"):
            mount = calibration.lidars.get(role) if calibration else None
            pose = np.eye(4) if mount is None else np.asarray(mount.ego_SE3_lidar)
            for row, cloud in enumerate(self.clip.clouds(role)):
                if cloud is None:
                    continue
                thin = cloud[:: 1 + len(cloud) // _MAX_POINTS]
                points = thin[:, :3] @ pose[:3, :3].T + pose[:3, 3]
                self.at(self.ref_ns[row])
                self.stream.log(f"ego/{role}", self.rr.Points3D(points, colors=_grey(thin[:, 3]), radii=0.03))

    def radars(self) -> None:
        for role in self.shards.of("radar"):
            for row, tracks in enumerate(self.clip.tracks(role)):
                if tracks is None:
                    continue
                self.at(self.ref_ns[row])
                origins = [[t["x_m"], t["y_m"], _RADAR_Z_M] for t in tracks]
                moves = [[t["vx_mps"] * _VELOCITY_S, t["vy_mps"] * _VELOCITY_S, 0.0] for t in tracks]
                names = [f"track {t['track_id']}" for t in tracks]
                self.stream.log(f"ego/{role}", self.rr.Arrows3D(origins=origins, vectors=moves, labels=names))

    def signals(self) -> None:
        rr, signals = self.rr, self.clip.signals()
        for name, values in sorted(signals.items()):
            known = np.isfinite(values)
            if known.any():
                times = rr.TimeColumn(TIMELINE, timestamp=self.ref_ns[known].astype("datetime64[ns]"))
                self.stream.send_columns(
                    f"signals/{name}", [times], rr.Scalars.columns(scalars=values[known])
                )
        if {"latitude_deg", "longitude_deg"} <= set(signals):
            way = np.stack([signals["latitude_deg"], signals["longitude_deg"]], axis=1)
            way = way[np.isfinite(way).all(axis=1)]
            if len(way):
                self.stream.log("way", rr.GeoLineStrings(lat_lon=[way]), static=True)

    def events(self) -> None:
        for span in self.overlay.events:
            self.at(span.start_ns)
            text = f"{span.kind} level {span.level}, {(span.end_ns - span.start_ns) / 1e9:.1f} s"
            self.stream.log("events", self.rr.TextLog(text, level="WARN"))


def _grey(intensity: np.ndarray) -> np.ndarray:
    """(N,) of any scale -> (N, 3) uint8, brighter where the return is stronger."""
    top = float(np.percentile(intensity, 99)) if len(intensity) else 1.0
    shade = np.clip(80 + 175 * intensity / (top or 1.0), 80, 255)
    return np.repeat(np.nan_to_num(shade, nan=80).astype(np.uint8)[:, None], 3, axis=1)
