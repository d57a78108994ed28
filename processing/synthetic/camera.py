"""The dashcam: a pinhole camera above a flat road.

World coordinates are metres: x to the right, y up, z ahead of the camera along the road. The frame is
BDD100K's 1280x720 pixels whatever size is rendered in the end, so that labels need no scaling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

FRAME_WIDTH = 1280
FRAME_HEIGHT = 720
_MIDDLE = np.array([FRAME_WIDTH / 2, FRAME_HEIGHT / 2])
NEAR = 0.35  # metres; what lies nearer than this is cut off


@dataclass(frozen=True)
class Camera:
    """A pinhole camera at (0, height, 0).

    Args:
        focal: Focal length in pixels of the 1280x720 frame.
        height: Height above the road in metres.
        pitch: Downward tilt in radians.
        yaw: Turn to the right in radians.
        roll: Clockwise roll of the picture in radians.
    """

    focal: float = 1000.0
    height: float = 1.4
    pitch: float = 0.0
    yaw: float = 0.0
    roll: float = 0.0

    @cached_property
    def rotation(self) -> np.ndarray:
        """World to camera axes (right, down, ahead), shape ``(3, 3)``."""
        sin_pitch, cos_pitch = math.sin(self.pitch), math.cos(self.pitch)
        sin_yaw, cos_yaw = math.sin(self.yaw), math.cos(self.yaw)
        ahead = np.array([sin_yaw * cos_pitch, -sin_pitch, cos_yaw * cos_pitch])
        right = np.array([cos_yaw, 0.0, -sin_yaw])
        down = np.cross(right, ahead)
        sin_roll, cos_roll = math.sin(self.roll), math.cos(self.roll)
        return np.stack([cos_roll * right - sin_roll * down, sin_roll * right + cos_roll * down, ahead])

    @cached_property
    def _shift(self) -> np.ndarray:
        return -self.rotation @ self.position

    @property
    def position(self) -> np.ndarray:
        """Camera centre in the world, shape ``(3,)``."""
        return np.array([0.0, self.height, 0.0])

    @property
    def horizon(self) -> float:
        """Row of the horizon in the middle column, in pixels of the 1280x720 frame."""
        return FRAME_HEIGHT / 2 - self.focal * math.tan(self.pitch)

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """World points ``(..., 3)`` to camera coordinates ``(..., 3)``; the last is the depth in metres."""
        return points @ self.rotation.T + self._shift

    def to_pixels(self, camera_points: np.ndarray) -> np.ndarray:
        """Camera coordinates ``(..., 3)`` in front of the lens to pixels ``(..., 2)``."""
        return camera_points[..., :2] * (self.focal / camera_points[..., 2:3]) + _MIDDLE

    @cached_property
    def _rows(self) -> list[list[float]]:
        return np.column_stack([self.rotation, self._shift]).tolist()

    def project_few(self, points: np.ndarray) -> list[tuple[float, float]] | None:
        """Pixels of a few world points ``(n, 3)``, in plain numbers, which for a few are faster than arrays.

        Returns:
            A pair a point, or None when one of them is nearer than the near plane.
        """
        (ax, ay, az, a), (bx, by, bz, b), (cx, cy, cz, c) = self._rows
        pixels = []
        for x, y, z in points.tolist():
            depth = cx * x + cy * y + cz * z + c
            if depth < NEAR:
                return None
            scale = self.focal / depth
            across, down = ax * x + ay * y + az * z + a, bx * x + by * y + bz * z + b
            pixels.append((across * scale + FRAME_WIDTH / 2, down * scale + FRAME_HEIGHT / 2))
        return pixels

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """World points ``(..., 3)`` to pixels ``(..., 2)`` and depths ``(...)``; < NEAR is behind us."""
        seen = self.to_camera(points)
        depth = seen[..., 2]
        safe = seen.copy()
        safe[..., 2] = np.maximum(depth, 1e-3)
        return self.to_pixels(safe), depth


def clip_near(points: np.ndarray) -> np.ndarray:
    """Cut a polygon in camera coordinates ``(n, 3)`` at the near plane (Sutherland and Hodgman, 1974)."""
    depths = points[:, 2].tolist()
    if min(depths) >= NEAR:
        return points
    if max(depths) < NEAR:
        return points[:0]
    inside = [depth >= NEAR for depth in depths]
    kept = []
    for i in range(len(points)):
        current, following = points[i], points[(i + 1) % len(points)]
        if inside[i]:
            kept.append(current)
        if inside[i] != inside[(i + 1) % len(points)]:
            part = (NEAR - current[2]) / (following[2] - current[2])
            kept.append(current + part * (following - current))
    return np.array(kept)
