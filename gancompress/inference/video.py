"""Translate a video frame by frame; sound, timing and orientation stay as they are.

Every frame is turned upright first (phones store a rotation beside the pixels) and keeps its time
stamp, so a variable frame rate stays variable. The output is H.264 in yuv420p, which needs even
sides: an odd one grows by one pixel that repeats the last row or column. Colours are written as
BT.709, and marked so. Sound is copied without decoding where the container can hold it. A file
that ends early gives the frames that it holds, and a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice

import av
import numpy as np
from PIL import Image

from gancompress.data.images import atomic_path, to_tensor
from gancompress.data.translation import Generator
from gancompress.errors import DataError
from gancompress.inference.batches import attempt_images
from gancompress.inference.containers import BT709, Frame, Reader, Writer, open_video
from gancompress.inference.options import TranslateOptions
from gancompress.inference.plan import Job
from gancompress.inference.pool import in_order, progress, worker_pool
from gancompress.inference.resize import resize_shorter

log = logging.getLogger(__name__)

UNSPECIFIED = 2
# what players assume of pixels without a mark: BT.601 below this height, BT.709 from it on
HD_HEIGHT = 720


def translate_video(generator: Generator, job: Job, options: TranslateOptions) -> int:
    """Translate every frame of a video.

    Args:
        generator: As in `translate_images`.
        job: The input, and an output whose suffix is one of `VIDEO_TARGETS`.
        options: Batch size, stride, size, device and the kind of output are used.

    Returns:
        Frames written.

    Raises:
        DataError: The input is no video or is damaged, a frame came out with NaN or infinite
            values, or the output cannot be written. No output is left behind.
    """
    with open_video(job.source) as reader:
        try:
            with atomic_path(job.target) as temporary, Writer(temporary, reader) as writer:
                _copy(generator, reader, writer, options)
        except (av.FFmpegError, OSError) as error:
            reason = error.strerror or error
            raise DataError(f"{job.target}: cannot be written: {reason}") from None
        if reader.has_time_stamps and writer.count < reader.video.frames:
            log.warning(
                "%s: %d of %d frames could be read", job.source, writer.count, reader.video.frames
            )
    return writer.count


def _copy(generator: Generator, reader: Reader, writer: Writer, options: TranslateOptions) -> None:
    with worker_pool() as pool:
        frames = _frames(reader, writer, pool, options)
        fakes = _translated(generator, frames, str(reader.path), options)
        for fake in progress(fakes, reader.video.frames, "frame"):
            writer.add_frame(fake)
    if not writer.count:
        raise DataError(f"{reader.path} holds no frames")


def _frames(
    reader: Reader, writer: Writer, pool: ThreadPoolExecutor, options: TranslateOptions
) -> Iterator[Frame]:
    """Frames of the input, upright and resized; sound on the way goes straight to the output."""

    def pictures() -> Iterator[av.VideoFrame]:
        for item in reader:
            if isinstance(item, av.VideoFrame):
                yield item
            else:
                writer.add_sound(item)

    def convert(picture: av.VideoFrame) -> Frame:
        turns = round(picture.rotation / 90)
        planes = resize_shorter([_upright(picture, turns)], options.size, str(reader.path))
        shape = reader.video.sample_aspect_ratio
        if shape and turns % 2:
            shape = 1 / shape
        pts = picture.pts if reader.has_time_stamps else None
        return Frame(to_tensor(planes[0]), pts, picture.duration or 0, shape or None)

    return in_order(pool, convert, pictures(), options.batch_size + 1)


def _upright(picture: av.VideoFrame, turns: int) -> Image.Image:
    """RGB after `turns` quarter turns counter-clockwise."""
    unmarked = picture.colorspace == UNSPECIFIED and picture.height >= HD_HEIGHT
    pixels = picture.to_ndarray(format="rgb24", src_colorspace=BT709 if unmarked else None)
    return Image.fromarray(np.ascontiguousarray(np.rot90(pixels, turns)).astype(np.uint8))


def _translated(
    generator: Generator, frames: Iterable[Frame], name: str, options: TranslateOptions
) -> Iterator[Frame]:
    count, stream = 0, iter(frames)
    while batch := list(islice(stream, options.batch_size)):
        images = [frame.pixels for frame in batch]
        outcomes = attempt_images(
            generator, images, options.stride, options.batch_size, options.device
        )
        for frame, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, str):
                raise DataError(f"{name}, frame {count}: {outcome}")
            yield replace(frame, pixels=options.output.preview(outcome))
            count += 1
