"""Video files: decoded frames and undecoded sound in, H.264 with the same sound out."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.stream import Stream
from av.video.stream import VideoStream
from torch import Tensor

from gancompress.data.images import MAX_PIXELS
from gancompress.errors import DataError

log = logging.getLogger(__name__)

# H.273 code points
BT709 = 1
LIMITED_RANGE = 1
QUALITY = {"crf": "18"}
# nothing but the file itself: no playlist that names others, no address
OWN_FILE_ONLY = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi",
}

Sound: TypeAlias = "av.Packet[Stream]"


@dataclass(frozen=True)
class Frame:
    """One picture of a video.

    Attributes:
        pixels: (3, H, W) uint8, upright.
        pts: When it is shown, in ticks of the input's stream; None where the file does not say.
        duration: How long, in ticks; 0 where the file does not say.
        pixel_shape: Width over height of one pixel; None for squares.
    """

    pixels: Tensor
    pts: int | None
    duration: int
    pixel_shape: Fraction | None


def open_video(path: Path) -> Reader:
    """Open a video file.

    Raises:
        DataError: Not a video, one without pictures, or one above `MAX_PIXELS`.
    """
    try:
        container = av.open(
            _address(path), metadata_errors="replace", container_options=OWN_FILE_ONLY
        )
    except (av.FFmpegError, OSError) as error:
        raise _unreadable(path, error) from None
    video, audio = (container.streams.best(kind) for kind in ("video", "audio"))
    if not isinstance(video, VideoStream) or video.codec_context is None:
        container.close()
        raise DataError(f"{path} holds no video that can be decoded")
    if video.width * video.height > MAX_PIXELS:
        container.close()
        raise DataError(f"{path}: {video.width}x{video.height} is above {MAX_PIXELS} pixels")
    video.thread_type = "AUTO"
    return Reader(path, container, video, audio if isinstance(audio, AudioStream) else None)


def _address(path: Path) -> str:
    """A file as FFmpeg takes no part of its name for a protocol, such as `http:` or `concat:`."""
    return f"file:{path.absolute()}"


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: not a readable video: {getattr(error, 'strerror', None) or error}")


@dataclass(frozen=True)
class Reader:
    """An open video; iterating decodes pictures and hands out packets of sound, in file order.

    Attributes:
        path: What errors call it.
        container: The open file.
        video: Its stream of pictures.
        audio: Its stream of sound, or None.
    """

    path: Path
    container: InputContainer
    video: VideoStream
    audio: AudioStream | None

    @property
    def rate(self) -> Fraction:
        """Frames per second; 25 where the file does not say."""
        return self.video.average_rate or self.video.guessed_rate or Fraction(25)

    @property
    def time_base(self) -> Fraction:
        """Seconds in one tick of the time stamps."""
        return self.video.time_base or 1 / self.rate

    @property
    def has_time_stamps(self) -> bool:
        """Whether frames know when they are shown; AVI has a constant rate and nothing else."""
        return self.container.format.name != "avi"

    def __iter__(self) -> Iterator[av.VideoFrame | Sound]:
        streams = [stream for stream in (self.video, self.audio) if stream is not None]
        decoded, damage = 0, None
        try:
            for packet in self.container.demux(*streams):
                if packet.stream is not self.video:
                    yield packet
                    continue
                if damage is not None and packet.dts is not None:  # no packet that ends the stream
                    raise damage
                try:
                    frames = self.video.decode(packet)
                except av.InvalidDataError as error:  # decoders with several threads drop it
                    if not decoded:
                        raise
                    damage = error
                    continue
                decoded += len(frames)
                yield from frames
        except (av.FFmpegError, OSError) as error:
            raise _unreadable(self.path, error) from None
        if damage is not None:
            log.warning("%s: its last frame is damaged and is left out", self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()


class Writer:
    """One H.264 stream and a copy of the sound; the first frame decides the size of the video.

    Args:
        path: Suffix mp4, m4v, mov or mkv.
        reader: The input, for its frame rate, its clock and its sound.
    """

    def __init__(self, path: Path, reader: Reader) -> None:
        # the index in front lets a browser play the file while it loads
        options = {} if path.suffix.lower() == ".mkv" else {"movflags": "+faststart"}
        self.container: OutputContainer = av.open(_address(path), "w", options=options)
        self.video = self.container.add_stream("libx264", rate=reader.rate, options=QUALITY)
        self.audio = self._sound_like(reader)
        self.time_base = reader.time_base
        self.step = max(1, round(1 / (reader.rate * reader.time_base)))
        self.count = 0
        self._last: int | None = None
        self._early_sound: list[Sound] = []

    def _sound_like(self, reader: Reader) -> AudioStream | None:
        if reader.audio is None:
            return None
        kind = self.container.format.name
        if _holds(kind, reader.audio):
            return self.container.add_stream_from_template(reader.audio)
        context = reader.audio.codec_context
        codec = context.codec.canonical_name if context is not None else "an unknown code"
        log.warning("%s: %s does not hold sound in %s; left out", reader.path, kind, codec)
        return None

    def add_sound(self, packet: Sound) -> None:
        """Copy one packet; the empty one that ends a stream is not written."""
        if self.audio is None or packet.dts is None:
            return
        packet.stream = self.audio
        if self.count:
            self.container.mux(packet)
        else:  # the header of the file waits for the size of the first frame
            self._early_sound.append(packet)

    def add_frame(self, frame: Frame) -> None:
        """Encode one frame at its time stamp, or one step after the last frame."""
        picture = _even_picture(frame.pixels)
        if not self.count:
            self._start(picture, frame.pixel_shape)
        earliest = 0 if self._last is None else self._last + 1
        usual = 0 if self._last is None else self._last + self.step
        picture.pts = self._last = max(earliest, usual if frame.pts is None else frame.pts)
        picture.time_base = self.time_base
        picture.duration = frame.duration or self.step
        self.count += 1
        self.container.mux(self.video.encode(picture))
        self.container.mux(self._early_sound)
        self._early_sound.clear()

    def _start(self, picture: av.VideoFrame, pixel_shape: Fraction | None) -> None:
        self.video.width, self.video.height = picture.width, picture.height
        self.video.pix_fmt = "yuv420p"
        context = self.video.codec_context
        context.time_base = self.time_base
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED_RANGE
        if pixel_shape is not None:
            context.sample_aspect_ratio = pixel_shape

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and self.count:
            self.container.mux(self.video.encode(None))
            self.container.close()
            return
        with contextlib.suppress(av.FFmpegError, OSError):  # the first error is the one to show
            self.container.close()


def _holds(kind: str, audio: AudioStream) -> bool:
    """Whether a container takes a stream: only writing a header tells, in memory here."""
    if audio.codec_context is None:
        return False
    with av.open(io.BytesIO(), "w", format=kind) as trial:
        try:
            trial.add_stream_from_template(audio)
            trial.start_encoding()
        except (av.FFmpegError, ValueError):
            return False
    return True


def _even_picture(pixels: Tensor) -> av.VideoFrame:
    """(3, H, W) uint8 -> yuv420p; an odd side gets one more row or column, equal to its last."""
    rgb = pixels.permute(1, 2, 0).numpy()
    height, width = rgb.shape[:2]
    rgb = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24")
    return picture.reformat(format="yuv420p", dst_colorspace=BT709, dst_color_range=LIMITED_RANGE)
