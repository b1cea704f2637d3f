# SPDX-License-Identifier: GPL-3.0-or-later
"""A thin ctypes binding of libbpf (1.1 or newer), no more of it than brine uses.

Byte strings in, byte strings out; what they mean is ``maps.py``'s matter.
Every failed call raises :class:`OSError` with the kernel's errno.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Callable, Iterator
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from typing import Any

from brine.btf import Btf

XDP_FLAGS_SKB_MODE = 1 << 1
XDP_FLAGS_DRV_MODE = 1 << 2
_BPF_XDP = 37
_TC_INGRESS = 1
_TC_REPLACE = 1
UPDATE_ANY, UPDATE_NOEXIST = 0, 1
_OBJ_NAME = 16


def _load() -> ctypes.CDLL:
    try:
        return ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise OSError(
            errno.ENOENT,
            "libbpf.so.1 is missing: install the package libbpf1 (libbpf on RPM systems)",
        ) from error


_lib = _load()
_PRINT = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)
_SAMPLE = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)


def _declare(name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(_lib, name)
    function.restype = result
    function.argtypes = arguments
    return function


_open_file = _declare("bpf_object__open_file", c_void_p, c_char_p, c_void_p)
_object_load = _declare("bpf_object__load", c_int, c_void_p)
_object_close = _declare("bpf_object__close", None, c_void_p)
_object_btf = _declare("bpf_object__btf", c_void_p, c_void_p)
_next_map = _declare("bpf_object__next_map", c_void_p, c_void_p, c_void_p)
_next_program = _declare("bpf_object__next_program", c_void_p, c_void_p, c_void_p)
_map_name = _declare("bpf_map__name", c_char_p, c_void_p)
_map_fd = _declare("bpf_map__fd", c_int, c_void_p)
_map_set_max = _declare("bpf_map__set_max_entries", c_int, c_void_p, c_uint32)
_map_set_pin = _declare("bpf_map__set_pin_path", c_int, c_void_p, c_char_p)
_map_set_autocreate = _declare("bpf_map__set_autocreate", c_int, c_void_p, ctypes.c_bool)
_program_name = _declare("bpf_program__name", c_char_p, c_void_p)
_program_fd = _declare("bpf_program__fd", c_int, c_void_p)
_program_autoload = _declare("bpf_program__set_autoload", c_int, c_void_p, ctypes.c_bool)
_btf_raw = _declare("btf__raw_data", c_void_p, c_void_p, POINTER(c_uint32))
_btf_by_id = _declare("btf__load_from_kernel_by_id", c_void_p, c_uint32)
_btf_free = _declare("btf__free", None, c_void_p)
_obj_get = _declare("bpf_obj_get", c_int, c_char_p)
_obj_pin = _declare("bpf_obj_pin", c_int, c_int, c_char_p)
_obj_info = _declare("bpf_obj_get_info_by_fd", c_int, c_int, c_void_p, POINTER(c_uint32))
_lookup = _declare("bpf_map_lookup_elem", c_int, c_int, c_char_p, c_void_p)
_update = _declare("bpf_map_update_elem", c_int, c_int, c_char_p, c_char_p, c_uint64)
_delete = _declare("bpf_map_delete_elem", c_int, c_int, c_char_p)
_next_key = _declare("bpf_map_get_next_key", c_int, c_int, c_char_p, c_void_p)
_test_run = _declare("bpf_prog_test_run_opts", c_int, c_int, c_void_p)
_link_create = _declare("bpf_link_create", c_int, c_int, c_int, c_int, c_void_p)
_link_update = _declare("bpf_link_update", c_int, c_int, c_int, c_void_p)
_link_detach = _declare("bpf_link_detach", c_int, c_int)
_tc_hook_create = _declare("bpf_tc_hook_create", c_int, c_void_p)
_tc_attach = _declare("bpf_tc_attach", c_int, c_void_p, c_void_p)
_tc_query = _declare("bpf_tc_query", c_int, c_void_p, c_void_p)
_ring_new = _declare("ring_buffer__new", c_void_p, c_int, _SAMPLE, c_void_p, c_void_p)
_ring_free = _declare("ring_buffer__free", None, c_void_p)
_ring_consume = _declare("ring_buffer__consume", c_int, c_void_p)
_ring_epoll = _declare("ring_buffer__epoll_fd", c_int, c_void_p)
_possible_cpus = _declare("libbpf_num_possible_cpus", c_int)
_set_print = _declare("libbpf_set_print", c_void_p, _PRINT)

_vsnprintf = ctypes.CDLL(None).vsnprintf
_messages: list[str] = []


def _collect(_level: int, template: bytes, arguments: int) -> int:
    """Keep what libbpf would print (the verifier's log among it) for errors."""
    buffer = ctypes.create_string_buffer(1 << 16)
    _vsnprintf(buffer, len(buffer), template, c_void_p(arguments))
    _messages.append(buffer.value.decode(errors="replace"))
    del _messages[:-40]
    return 0


_print = _PRINT(_collect)  # libbpf keeps the pointer, so we keep the object
_set_print(_print)


def _check(result: int, what: str) -> int:
    if result < 0:
        code = -result if result < -1 else ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def possible_cpus() -> int:
    """How many values a per-CPU map element has."""
    return _check(_possible_cpus(), "count CPUs")


class _MapInfo(ctypes.Structure):
    _fields_ = [  # struct bpf_map_info, its first fields, which never change
        ("type", c_uint32),
        ("id", c_uint32),
        ("key_size", c_uint32),
        ("value_size", c_uint32),
        ("max_entries", c_uint32),
        ("map_flags", c_uint32),
        ("name", ctypes.c_char * _OBJ_NAME),
        ("ifindex", c_uint32),
        ("btf_vmlinux_value_type_id", c_uint32),
        ("netns_dev", c_uint64),
        ("netns_ino", c_uint64),
        ("btf_id", c_uint32),
        ("btf_key_type_id", c_uint32),
        ("btf_value_type_id", c_uint32),
        ("reserved", c_uint32),
    ]


_PERCPU_TYPES = frozenset({5, 6, 10})  # hash, array, LRU hash


class Map:
    """A map by file descriptor, which the instance owns."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        info = _MapInfo()
        size = c_uint32(ctypes.sizeof(info))
        _check(_obj_info(fd, byref(info), byref(size)), "read a map's description")
        self.name = info.name.decode()
        self.id: int = info.id
        self.key_size: int = info.key_size
        self.value_size: int = info.value_size
        self.max_entries: int = info.max_entries
        self.btf_id: int = info.btf_id
        self.percpu = info.type in _PERCPU_TYPES
        #: bytes of what is read and written at once
        self.element_size = self.value_size
        if self.percpu:
            self.element_size = (self.value_size + 7) // 8 * 8 * possible_cpus()

    @classmethod
    def pinned(cls, path: str) -> Map:
        """The map pinned at `path`."""
        return cls(_check(_obj_get(path.encode()), f"open the pinned map {path}"))

    def close(self) -> None:
        os.close(self.fd)

    def btf(self) -> Btf:
        """The BTF that the map was created with."""
        return btf_by_id(self.btf_id)

    def lookup(self, key: bytes) -> bytes | None:
        """The value, or None. Per-CPU maps: all CPUs' values, each padded to 8."""
        value = ctypes.create_string_buffer(self.element_size)
        return value.raw if self._lookup(key, value) else None

    def lookup_into(self, key: bytes, value: ctypes.Structure) -> bool:
        """Read an element into `value`, of its size. False if there is none."""
        if ctypes.sizeof(value) != self.element_size:
            raise ValueError(f"{self.name} holds {self.element_size} bytes")
        return self._lookup(key, byref(value))

    def _lookup(self, key: bytes, value: Any) -> bool:
        result = _lookup(self.fd, self._key(key), value)
        if result < 0 and ctypes.get_errno() == errno.ENOENT:
            return False
        _check(result, f"look up in {self.name}")
        return True

    def update(self, key: bytes, value: bytes, flags: int = UPDATE_ANY) -> None:
        """Write one element; of a per-CPU map, all CPUs' values, as :meth:`lookup` gives."""
        if len(value) != self.element_size:
            raise ValueError(f"{self.name} holds {self.element_size} bytes, not {len(value)}")
        _check(_update(self.fd, self._key(key), value, flags), f"write to {self.name}")

    def delete(self, key: bytes) -> None:
        """Remove one element. A missing one is no error."""
        result = _delete(self.fd, self._key(key))
        if result < 0 and ctypes.get_errno() == errno.ENOENT:
            return
        _check(result, f"delete from {self.name}")

    def keys(self) -> Iterator[bytes]:
        """All keys. Deleting while iterating needs ``list(...)`` first."""
        key: bytes | None = None
        following = ctypes.create_string_buffer(self.key_size)
        while True:
            result = _next_key(self.fd, key, following)
            if result < 0:
                if ctypes.get_errno() == errno.ENOENT:
                    return
                _check(result, f"list {self.name}")
            key = following.raw
            yield key

    def map_memory(self) -> mmap.mmap:
        """The values of a BPF_F_MMAPABLE array, read-only, in place."""
        stride = (self.value_size + 7) // 8 * 8
        return mmap.mmap(self.fd, stride * self.max_entries, mmap.MAP_SHARED, mmap.PROT_READ)

    def _key(self, key: bytes) -> bytes:
        if len(key) != self.key_size:
            raise ValueError(f"{self.name} has keys of {self.key_size} bytes, not {len(key)}")
        return key


def btf_by_id(number: int) -> Btf:
    """BTF that the kernel holds."""
    handle = _btf_by_id(number)
    if not handle:
        _check(-1, f"read BTF {number} from the kernel")
    try:
        return _raw_btf(handle)
    finally:
        _btf_free(handle)


def _raw_btf(handle: int) -> Btf:
    size = c_uint32()
    data = _btf_raw(handle, byref(size))
    return Btf(ctypes.string_at(data, size.value))


class _TestRunOpts(ctypes.Structure):
    _fields_ = [
        ("sz", c_size_t),
        ("data_in", c_void_p),
        ("data_out", c_void_p),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", c_void_p),
        ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
        ("repeat", c_int),
        ("duration", c_uint32),
        ("flags", c_uint32),
        ("cpu", c_uint32),
        ("batch_size", c_uint32),
    ]


class Run:
    """What BPF_PROG_RUN gave back."""

    def __init__(self, value: int, data: bytes, context: bytes, nanoseconds: int) -> None:
        self.value = value  #: the program's return value
        self.data = data  #: the packet afterwards (XDP, TC)
        self.context = context  #: the context afterwards (syscall programs)
        self.nanoseconds = nanoseconds  #: mean duration of a repetition


@dataclass(frozen=True)
class ProgramSize:
    """A loaded program with all functions it calls."""

    instructions: int  #: of BPF, as the kernel rewrote them
    machine_bytes: int  #: of the processor, 0 without a JIT
    verified: int  #: steps of the verifier, which gives up at a million


class Program:
    """A loaded program by file descriptor, which the instance owns."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def pinned(cls, path: str) -> Program:
        """The program pinned at `path`."""
        return cls(_check(_obj_get(path.encode()), f"open the pinned program {path}"))

    def close(self) -> None:
        os.close(self.fd)

    def run(
        self,
        data: bytes | None = None,
        context: bytes | None = None,
        *,
        repeat: int = 0,
    ) -> Run:
        """Run it through BPF_PROG_RUN: on a packet (XDP, TC; `repeat` times), or
        on a context, which a syscall program may change."""
        options = _TestRunOpts(sz=ctypes.sizeof(_TestRunOpts))
        data_in = data_out = context_buffer = None
        if data is not None:
            data_in = ctypes.create_string_buffer(data, len(data))
            data_out = ctypes.create_string_buffer(len(data) + 512)
            options.data_in = ctypes.addressof(data_in)
            options.data_size_in = len(data)
            options.data_out = ctypes.addressof(data_out)
            options.data_size_out = len(data_out)
            options.repeat = repeat
        if context is not None:
            context_buffer = ctypes.create_string_buffer(context, len(context))
            options.ctx_in = ctypes.addressof(context_buffer)
            options.ctx_size_in = len(context)
        _check(_test_run(self.fd, byref(options)), "run a program")
        value: int = options.retval
        data_after = data_out.raw[: options.data_size_out] if data_out is not None else b""
        context_after = context_buffer.raw if context_buffer is not None else b""
        if context_buffer is not None:  # may have held keys
            ctypes.memset(context_buffer, 0, len(context_buffer))
        return Run(value, data_after, context_after, options.duration)

    def call(self, context: ctypes.Structure) -> int:
        """Run a syscall program on `context`, in place: no copy of it is made in this
        process. Returns the program's value."""
        options = _TestRunOpts(sz=ctypes.sizeof(_TestRunOpts))
        options.ctx_in = ctypes.addressof(context)
        options.ctx_size_in = ctypes.sizeof(context)
        _check(_test_run(self.fd, byref(options)), "run a program")
        value: int = options.retval
        return value

    def size(self) -> ProgramSize:
        """How large it is. The kernel does not say what it verified before 5.16."""
        info = (c_uint32 * 56)()  # struct bpf_prog_info, its first 224 bytes
        _check(
            _obj_info(self.fd, byref(info), byref(c_uint32(224))), "read a program's description"
        )
        return ProgramSize(instructions=info[5] // 8, machine_bytes=info[4], verified=info[54])

    def id(self) -> int:
        """The kernel's number of the program."""
        info = (c_uint32 * 2)()  # struct bpf_prog_info: type, id
        _check(_obj_info(self.fd, byref(info), byref(c_uint32(8))), "read a program's description")
        return info[1]


class Object:
    """An ELF object: open, adjust, load. Closing frees what nothing else holds.

    :raises OSError: from :meth:`load`, with the last lines of the verifier's log.
    """

    def __init__(self, path: str) -> None:
        self._handle = _open_file(path.encode(), None)
        if not self._handle:
            _check(-1, f"open {path}")
        self.path = path
        self.btf = _raw_btf(_object_btf(self._handle))
        self._maps = dict(self._each(_next_map, _map_name))
        self._programs = dict(self._each(_next_program, _program_name))

    def _each(self, following: Any, name: Any) -> Iterator[tuple[str, int]]:
        item = following(self._handle, None)
        while item:
            yield name(item).decode(), item
            item = following(self._handle, item)

    def map_names(self) -> list[str]:
        return list(self._maps)

    def program_names(self) -> list[str]:
        return list(self._programs)

    def set_max_entries(self, name: str, entries: int) -> None:
        _check(_map_set_max(self._maps[name], entries), f"size {name}")

    def set_pin_path(self, name: str, path: str) -> None:
        """Pin there when loading, or reuse what is pinned there and fits."""
        _check(_map_set_pin(self._maps[name], path.encode()), f"pin {name}")

    def leave_out(self, prefix: str) -> None:
        """Neither load programs nor create maps of that name."""
        for name, program in self._programs.items():
            if name.startswith(prefix):
                _check(_program_autoload(program, False), name)
        for name, item in self._maps.items():
            if name.startswith(prefix):
                _check(_map_set_autocreate(item, False), name)

    def load(self) -> None:
        del _messages[:]
        try:
            _check(_object_load(self._handle), f"load {self.path}")
        except OSError as error:
            log = "".join(_messages)[-3000:]
            raise OSError(error.errno, f"{error.strerror}\n{log}") from None

    def program(self, name: str) -> Program:
        return Program(os.dup(_check(_program_fd(self._programs[name]), name)))

    def map(self, name: str) -> Map:
        return Map(os.dup(_check(_map_fd(self._maps[name]), name)))

    def close(self) -> None:
        _object_close(self._handle)
        self._handle = None


def pin(fd: int, path: str) -> None:
    """Pin a map, program or link."""
    _check(_obj_pin(fd, path.encode()), f"pin {path}")


def open_pinned(path: str) -> int:
    """A file descriptor of what is pinned at `path`."""
    return _check(_obj_get(path.encode()), f"open {path}")


class _LinkCreateOpts(ctypes.Structure):
    _fields_ = [
        ("sz", c_size_t),
        ("flags", c_uint32),
        ("iter_info", c_void_p),
        ("iter_info_len", c_uint32),
        ("target_btf_id", c_uint32),
        ("padding", c_uint64 * 4),
    ]


def attach_xdp(program: Program, ifindex: int, flags: int) -> int:
    """A link (file descriptor) of `program` on the device.

    :raises OSError: EBUSY if another program is there, EOPNOTSUPP if the driver
        knows no native XDP.
    """
    options = _LinkCreateOpts(sz=ctypes.sizeof(_LinkCreateOpts), flags=flags)
    return _check(
        _link_create(program.fd, ifindex, _BPF_XDP, byref(options)), "attach the XDP program"
    )


def update_link(link: int, program: Program) -> None:
    """Replace the link's program: no packet sees neither or both."""
    _check(_link_update(link, program.fd, None), "replace the XDP program")


def detach_link(link: int) -> None:
    """Detach now what the link attaches. Its last reference going does so too, but later: the
    kernel leaves that to a work queue."""
    _check(_link_detach(link), "detach the XDP program")


class LinkInfo:
    """What a link attaches, and where. `ifindex` is 0 once the device is gone."""

    def __init__(self, link: int) -> None:
        info = (c_uint32 * 5)()  # struct bpf_link_info: type, id, prog_id, padding, xdp.ifindex
        size = c_uint32(ctypes.sizeof(info))
        _check(_obj_info(link, byref(info), byref(size)), "read a link's description")
        self.program_id = info[2]
        self.ifindex = info[4]


class _TcHook(ctypes.Structure):
    _fields_ = [
        ("sz", c_size_t),
        ("ifindex", c_int),
        ("attach_point", c_int),
        ("parent", c_uint32),
    ]


class _TcOpts(ctypes.Structure):
    _fields_ = [
        ("sz", c_size_t),
        ("prog_fd", c_int),
        ("flags", c_uint32),
        ("prog_id", c_uint32),
        ("handle", c_uint32),
        ("priority", c_uint32),
    ]


def _tc(ifindex: int) -> _TcHook:
    return _TcHook(sz=ctypes.sizeof(_TcHook), ifindex=ifindex, attach_point=_TC_INGRESS)


def attach_tc_ingress(program: Program, ifindex: int) -> None:
    """Attach to the device's clsact ingress, atomically replacing ours."""
    hook = _tc(ifindex)
    result = _tc_hook_create(byref(hook))
    if result < 0 and result != -errno.EEXIST:
        _check(result, "create the clsact qdisc")
    options = _TcOpts(
        sz=ctypes.sizeof(_TcOpts), prog_fd=program.fd, flags=_TC_REPLACE, handle=1, priority=1
    )
    _check(_tc_attach(byref(hook), byref(options)), "attach the TC program")


def tc_ingress_program(ifindex: int) -> int:
    """The id of the program in our slot of the device's ingress, or 0."""
    hook = _tc(ifindex)
    options = _TcOpts(sz=ctypes.sizeof(_TcOpts), handle=1, priority=1)
    if int(_tc_query(byref(hook), byref(options))):
        return 0
    return int(options.prog_id)


class RingBuffer:
    """Consumer of a ring buffer map: `handle` gets each record's bytes."""

    def __init__(self, source: Map, handle: Callable[[bytes], None]) -> None:
        def sample(_context: int, data: int, size: int) -> int:
            handle(ctypes.string_at(data, size))
            return 0

        self._callback = _SAMPLE(sample)  # ctypes keeps no reference of its own
        self._ring = _ring_new(source.fd, self._callback, None, None)
        if not self._ring:
            _check(-1, "open the ring buffer")

    def fileno(self) -> int:
        """Readable when records wait."""
        return int(_ring_epoll(self._ring))

    def consume(self) -> int:
        """Handle all that wait; their number."""
        return _check(_ring_consume(self._ring), "read the ring buffer")

    def close(self) -> None:
        _ring_free(self._ring)
