# ruff: noqa: N802 - names are those of torch.cuda
"""A CUDA that is as late as its rules allow, on the CPU: streams are queues, and nothing in them runs before somebody
waits for it, or chance lets it. Memory of the device, and pinned memory, starts with values that nobody wrote.

Drives the CUDA branches of `extraction.gpu.batches` and `extraction.gpu.uploads`, by standing in for `torch`,
`Encoder`, `crop` and `to_rgb` there.
"""

import linecache
import random
import sys
from collections import deque
from contextlib import contextmanager, nullcontext

import numpy as np
import torch

from har_cache.encoder.transform import Transform, crop
from har_cache.extraction.gpu import batches, uploads
from har_cache.extraction.gpu.colours import to_rgb

POISON = 7


class LateCuda:
    """The device, and what stands for `torch`.

    `registers`: whether it takes memory of others as pinned. `without`, (function, text): leave out the
    synchronisation that stands in a line with this text in that function; `left_out` counts how often that was.
    """

    def __init__(self, seed, registers=True, without=None):
        self.random = random.Random(seed)
        self.registers, self.without, self.left_out = registers, without, 0
        self.streams, self.registered = [], {}
        self.now = Stream(self)
        self.cuda = _Cuda(self)

    def __getattr__(self, name):
        return getattr(torch, name)

    def run(self, stream):
        """The next piece of work in a stream; a wait for an event does what comes before that."""
        work = stream.queue.popleft()
        work()

    def enqueue(self, work):
        self.now.queue.append(work)

    def chance(self):
        """The device gets on by itself, or not."""
        for stream in self.streams:
            while stream.queue and self.random.random() < 0.3:
                self.run(stream)

    def skips(self):
        if self.without is None:
            return False
        frame = sys._getframe(2)
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        skipped = frame.f_code.co_name == self.without[0] and self.without[1] in line
        self.left_out += skipped
        return skipped

    def zeros(self, *shape, device=None, **more):
        return Memory(self, torch.zeros(*shape, **more))

    def empty(self, *shape, device=None, pin_memory=False, **more):
        tensor = torch.empty(*shape, **more).fill_(POISON)
        return (Pinned if pin_memory else Memory)(self, tensor)

    def from_numpy(self, array):
        return Pinned(self, torch.from_numpy(array))


class _Cuda:
    """What stands for `torch.cuda`, and for its `cudart()`."""

    def __init__(self, late):
        self.late = late
        self.device = lambda device: nullcontext()
        self.cudart = lambda: self

    def Stream(self, device=None):
        return Stream(self.late)

    def Event(self, **options):
        return Event(self.late)

    def current_stream(self, device=None):
        return self.late.now

    @contextmanager
    def stream(self, stream):
        before, self.late.now = self.late.now, stream
        yield
        self.late.now = before

    def synchronize(self, device=None):
        for stream in self.late.streams:
            while stream.queue:
                self.late.run(stream)

    def CUDAGraph(self):
        return Graph(self.late)

    @contextmanager
    def graph(self, graph, stream=None):
        self.synchronize()  # as torch's does
        with self.stream(graph):
            yield

    def cudaHostRegister(self, pointer, size, flags):
        if not self.late.registers:
            return 1
        self.late.registered[pointer] = size
        return 0

    def cudaHostUnregister(self, pointer):
        del self.late.registered[pointer]
        return 0


class Stream:
    def __init__(self, late):
        self.late, self.queue = late, deque()
        late.streams.append(self)

    def wait_event(self, event):
        if event.count and not self.late.skips():
            count = event.count
            self.queue.append(lambda: event.come(count))

    def wait_stream(self, other):
        event = Event(self.late)
        event.record(other)
        self.wait_event(event)


class Graph:
    """Work that is captured: it runs each time that it is replayed."""

    def __init__(self, late):
        self.late, self.queue = late, []

    def replay(self):
        self.late.now.queue.extend(self.queue)


class Event:
    def __init__(self, late):
        self.late, self.count, self.done, self.stream_of = late, 0, 0, {}

    def record(self, stream):
        if self.late.skips():
            return
        self.count += 1
        count = self.count
        self.stream_of[count] = stream
        stream.queue.append(lambda: setattr(self, "done", count))

    def come(self, count):
        """Have everything done that comes before the event in its stream."""
        while self.done < count:
            self.late.run(self.stream_of[count])

    def synchronize(self):
        if not self.late.skips():
            self.come(self.count)

    def query(self):
        return True if self.late.skips() else self.done == self.count

    def elapsed_time(self, other):
        assert other.done
        return 1.0


class Memory:
    """Memory of the device: `tensor` is what is really there now."""

    def __init__(self, late, tensor):
        self.late, self.tensor = late, tensor

    def __getitem__(self, index):
        return type(self)(self.late, self.tensor[index])

    def __setitem__(self, index, value):
        target = self.tensor
        get = value if callable(value) else lambda: value
        self.late.enqueue(lambda: target.__setitem__(index, get()))

    def __len__(self):
        return len(self.tensor)

    def view(self, *shape):
        return type(self)(self.late, self.tensor.view(*shape))

    def to(self, *args, **more):
        if more:  # the memory format of new memory
            return Memory(self.late, self.tensor.to(**more))
        if isinstance(args[0], torch.device):
            return Memory(self.late, self.tensor.clone())
        source, target = self.tensor, Memory(self.late, torch.empty_like(self.tensor, dtype=args[0]).fill_(POISON))
        self.late.enqueue(lambda: target.tensor.copy_(source))
        return target

    def copy_(self, source, non_blocking=False):
        assert non_blocking
        target, origin = self.tensor, source.tensor
        if isinstance(source, Pinned):
            assert source.is_pinned(), "read from memory that is not pinned: the copy would wait"
        self.late.enqueue(lambda: target.copy_(origin))
        return self

    shape = property(lambda self: self.tensor.shape)
    dtype = property(lambda self: self.tensor.dtype)


class Pinned(Memory):
    """Memory of the host: torch's own, which is pinned, or somebody's, where it is registered."""

    def numpy(self):
        return self.tensor.numpy()

    def is_pinned(self):
        own = self.late.registered
        pointer = self.tensor.data_ptr()
        return not own or any(start <= pointer < start + size for start, size in own.items())


class FakeEncoder:
    """Some of the pixels of a crop as its embedding; the views differ by what is added."""

    def __init__(self, late):
        self.late, self.device, self.transform = late, torch.device("cuda"), Transform()

    def __call__(self, crops):
        source = crops.tensor
        out = Memory(self.late, torch.empty(2, len(source), 256).fill_(POISON))
        self.late.enqueue(lambda: out.tensor.copy_(embed(source)))
        return out


def embed(crops):
    """float32 (n, 3, 224, 224) -> (2, n, 256)."""
    few = crops.permute(0, 2, 3, 1).reshape(len(crops), -1)[:, ::588]
    return torch.stack([few, few + 256])


@contextmanager
def late_cuda(late, batch, tables, memories):
    """A BatchEncoder whose device is that late one."""
    with_patches = {
        batches: {
            "torch": late,
            "BATCH": batch,
            "unpack": lambda packed, precision, views, device: FakeEncoder(late),
            "to_rgb": lambda stored, layout, tables: (stored.tensor, layout, tables),
            "pictures": lambda found, views, transform: [lambda: _crop(*found)],
        },
        uploads: {"torch": late},
    }
    before = {module: {name: getattr(module, name) for name in names} for module, names in with_patches.items()}
    try:
        _set(with_patches)
        with batches.BatchEncoder(None, "fp16", ("center", "flip"), "cuda", tables, memories) as encoder:
            yield encoder
    finally:
        _set(before)


def _crop(stored, layout, tables):
    return crop(to_rgb(stored, layout, {kind: table.tensor for kind, table in tables.items()}))


def _set(values):
    for module, names in values.items():
        for name, value in names.items():
            setattr(module, name, value)


def expected(pieces):
    """What `embed` makes of the frames of pieces, float16 (2, n, 256); `pieces`: RGB, uint8 (n, height, width, 3)."""
    return np.concatenate([embed(crop(torch.from_numpy(piece))).half().numpy() for piece in pieces], axis=1)
