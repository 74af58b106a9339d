"""Videos through a generator and back: frames, timing, sound, colours, orientation."""

import itertools
import logging
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from gancompress.data import image_kind
from gancompress.errors import ConfigError, DataError
from gancompress.inference import TranslateOptions, translate_path, video
from gancompress.inference.containers import Reader, open_video


def identity(x: Tensor) -> Tensor:
    return x


def negative(x: Tensor) -> Tensor:
    return -x


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


RATE = Fraction(30000, 1001)


def make_video(path: Path, frames: list[np.ndarray], sound: str | None = "aac") -> None:
    """H.264 with frames (H, W, 3) uint8, and half a second of sound or more."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=RATE, options={"crf": "4"})
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv420p"
        audio = container.add_stream(sound, rate=48_000) if sound else None
        for frame in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(video.encode(None))
        for start in range(0, 24_000, 960) if audio else ():
            kind = audio.codec_context.format.name
            wave = av.AudioFrame(kind, "stereo", 960)
            for plane in wave.planes:
                plane.update(bytes(plane.buffer_size))
            wave.sample_rate, wave.pts, wave.time_base = 48_000, start, Fraction(1, 48_000)
            container.mux(audio.encode(wave))
        if audio:
            container.mux(audio.encode(None))


def flat(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Frames of one colour each; red grows, blue falls."""
    return [
        np.full((height, width, 3), (20 + 10 * index, 80, 200 - 10 * index), np.uint8)
        for index in range(count)
    ]


def read_video(path: Path) -> tuple[list[np.ndarray], Fraction]:
    """Frames and frame rate; what is read must be H.264 that every player shows."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.codec.canonical_name, stream.pix_fmt) == ("h264", "yuv420p")
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return frames, stream.average_rate


def sound_packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return []
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_video_keeps_frames_rate_size_and_sound(tmp_path: Path, batch_size: int) -> None:
    frames = flat(15)
    make_video(tmp_path / "in.mp4", frames)
    result = translate_path(
        negative, tmp_path / "in.mp4", tmp_path / "out.mp4", TranslateOptions(batch_size)
    )
    assert (result.num_images, result.num_frames) == (0, 15)
    shown, rate = read_video(tmp_path / "out.mp4")
    assert len(shown) == 15
    assert rate == RATE
    for frame, picture in zip(frames, shown, strict=True):
        assert picture.shape == frame.shape
        assert np.abs(picture.mean((0, 1)) - (255 - frame[0, 0])).max() < 5
    packets = sound_packets(tmp_path / "in.mp4")
    assert len(packets) > 10
    assert sound_packets(tmp_path / "out.mp4") == packets
    assert names(tmp_path) == ["in.mp4", "out.mp4"]


def test_grey_frames_are_written_as_grey_video(tmp_path: Path) -> None:
    make_video(tmp_path / "in.mp4", flat(2), None)
    options = TranslateOptions(output=image_kind("grey"))
    translate_path(lambda x: x[:, :1], tmp_path / "in.mp4", tmp_path / "out.mp4", options)
    shown, _ = read_video(tmp_path / "out.mp4")
    assert np.abs(shown[1].astype(int) - 30).max() < 8
    options = TranslateOptions(input=image_kind("grey"))
    with pytest.raises(ConfigError, match="videos are RGB"):
        translate_path(identity, tmp_path / "in.mp4", tmp_path / "out.mp4", options)


@pytest.mark.parametrize("suffix", ["mov", "mkv", "avi"])
def test_video_of_another_container_goes_to_a_folder_as_mp4(tmp_path: Path, suffix: str) -> None:
    make_video(tmp_path / f"clip.{suffix}", flat(6), "libmp3lame")
    translate_path(identity, tmp_path / f"clip.{suffix}", tmp_path / "out", TranslateOptions())
    shown, rate = read_video(tmp_path / "out" / "clip.mp4")
    assert len(shown) == 6
    assert float(rate) == pytest.approx(float(RATE), rel=0.01)
    assert len(sound_packets(tmp_path / "out" / "clip.mp4")) > 10


@pytest.mark.parametrize(
    ("source", "codec", "target"), [("in.avi", "pcm_u8", "out.mp4"), ("in.mkv", "flac", "out.mov")]
)
def test_sound_that_the_container_cannot_hold_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, source: str, codec: str, target: str
) -> None:
    make_video(tmp_path / source, flat(4), codec)
    with caplog.at_level(logging.WARNING):
        translate_path(identity, tmp_path / source, tmp_path / target, TranslateOptions())
    assert f"does not hold sound in {codec}" in caplog.text
    assert len(read_video(tmp_path / target)[0]) == 4
    assert sound_packets(tmp_path / target) == []


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_rotated_video_comes_out_upright(tmp_path: Path, degrees: int) -> None:
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[:24, :32] = 255
    with av.open(str(tmp_path / "phone.mp4"), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.set_display_rotation(degrees)
        for _ in range(3):
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(video.encode(None))
    translate_path(identity, tmp_path / "phone.mp4", tmp_path / "out.mp4", TranslateOptions())
    shown, _ = read_video(tmp_path / "out.mp4")
    expected = np.rot90(frame, degrees // 90)
    assert shown[0].shape == expected.shape
    assert np.abs(shown[0].astype(float) - expected).mean() < 4
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert next(container.decode(video=0)).rotation == 0


def test_video_with_odd_sides_grows_by_one_pixel(tmp_path: Path) -> None:
    make_video(tmp_path / "in.mp4", flat(3, 48, 64), None)
    options = TranslateOptions(size=27)  # 36 x 27
    translate_path(identity, tmp_path / "in.mp4", tmp_path / "out.mp4", options)
    shown, _ = read_video(tmp_path / "out.mp4")
    assert shown[0].shape == (28, 36, 3)
    assert np.abs(shown[2].astype(float) - flat(3)[2][0, 0]).max() < 8


def test_variable_frame_rate_is_kept(tmp_path: Path) -> None:
    times = [0, 40, 80, 300, 310, 320, 700]
    with av.open(str(tmp_path / "in.mkv"), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        for time, frame in zip(times, flat(7, 32, 32), strict=True):
            picture = av.VideoFrame.from_ndarray(frame, "rgb24")
            picture.pts, picture.time_base = time, Fraction(1, 1000)
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
    translate_path(identity, tmp_path / "in.mkv", tmp_path / "out.mp4", TranslateOptions())
    with av.open(str(tmp_path / "out.mp4")) as container:
        shown = [frame.time for frame in container.decode(video=0)]
    assert shown == pytest.approx([time / 1000 for time in times], abs=2e-3)


def test_colours_of_an_unmarked_hd_video_are_read_as_players_do(tmp_path: Path) -> None:
    colour = np.full((720, 64, 3), (200, 100, 30), np.uint8)
    picture = av.VideoFrame.from_ndarray(colour, "rgb24")
    picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709")
    with av.open(str(tmp_path / "in.mp4"), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 720, "yuv420p"
        picture.pts = 0
        container.mux(video.encode(picture))
        container.mux(video.encode(None))
    seen = []

    def record(x: Tensor) -> Tensor:
        seen.append(x.add(1).mul(127.5).mean((0, 2, 3)))
        return x

    translate_path(record, tmp_path / "in.mp4", tmp_path / "out.mp4", TranslateOptions())
    assert seen[0].tolist() == pytest.approx([200, 100, 30], abs=4)
    with av.open(str(tmp_path / "out.mp4")) as container:
        frame = next(container.decode(video=0))
    assert (frame.colorspace, frame.color_primaries, frame.color_trc) == (1, 1, 1)
    shown = frame.to_ndarray(format="rgb24").mean((0, 1))
    assert shown.tolist() == pytest.approx([200, 100, 30], abs=5)


@pytest.mark.parametrize("content", [b"", b"no video at all" * 100])
def test_file_that_is_no_video_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in.mp4").write_bytes(content)
    with pytest.raises(DataError, match=r"in\.mp4: not a readable video"):
        translate_path(identity, tmp_path / "in.mp4", tmp_path / "out.mp4", TranslateOptions())
    assert names(tmp_path) == ["in.mp4"]


@pytest.mark.parametrize("threads", [1, 4])  # a decoder with several says nothing of damage
def test_video_that_ends_early_gives_what_it_holds_with_a_warning(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
) -> None:
    def opened(path: Path) -> Reader:
        reader = open_video(path)
        reader.video.codec_context.thread_count = threads
        return reader

    monkeypatch.setattr(video, "open_video", opened)
    random = np.random.default_rng(0)
    frames = [random.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(12)]
    make_video(tmp_path / "whole.mp4", frames, None)
    translate_path(identity, tmp_path / "whole.mp4", tmp_path / "in.mp4", TranslateOptions())
    whole = (tmp_path / "in.mp4").read_bytes()  # with the index in front
    (tmp_path / "in.mp4").write_bytes(whole[: len(whole) // 2])
    translate_path(identity, tmp_path / "in.mp4", tmp_path / "out.mp4", TranslateOptions())
    assert "of 12 frames could be read" in caplog.text


def test_nan_frame_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    make_video(tmp_path / "in.mp4", flat(5))
    calls = itertools.count()

    def spoil(x: Tensor) -> Tensor:
        return x * torch.nan if next(calls) == 3 else x

    with pytest.raises(DataError, match=r"in\.mp4, frame 3: .*not finite"):
        translate_path(spoil, tmp_path / "in.mp4", tmp_path / "out.mp4", TranslateOptions())
    assert names(tmp_path) == ["in.mp4"]


def test_video_output_needs_a_container_for_h264(tmp_path: Path) -> None:
    make_video(tmp_path / "in.mp4", flat(2), None)
    with pytest.raises(DataError, match=r"(?s)out\.webm.*Choose from .*\.mp4"):
        translate_path(identity, tmp_path / "in.mp4", tmp_path / "out.webm", TranslateOptions())
