# SPDX-License-Identifier: GPL-3.0-or-later
"""bpf(2) and the bit of rtnetlink that a host's checks need, without libraries.

The checks run before anything of brine is on the host, so the standard library
is all there is. Structures: linux/bpf.h, linux/rtnetlink.h, linux/if_link.h.
"""

from __future__ import annotations

import ctypes
import os
import platform
import socket
import struct
import typing as t

SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280}

MAP_CREATE = 0
PROG_LOAD = 5
OBJ_GET = 7
OBJ_GET_INFO_BY_FD = 15

MAP_TYPE_ARRAY = 2
PROG_TYPE_SCHED_CLS = 3
PROG_TYPE_XDP = 6

ATTR_BYTES = 144  # union bpf_attr of Linux 6.1; a newer kernel takes a shorter one
RTM_GETLINK = 18
NLMSG_ERROR = 2
NLM_F_REQUEST = 1
IFLA_XDP = 43
IFLA_XDP_PROG_ID = 4
NLA_TYPE_MASK = 0x3FFF

LINKS = ("anon_inode:bpf-link", "anon_inode:bpf_link")

# r0 = 2 (XDP_PASS, TC_ACT_SHOT: neither is ever attached); exit
PROGRAM = struct.pack("<BBhi", 0xB7, 0, 0, 2) + struct.pack("<BBhi", 0x95, 0, 0, 0)


def bpf(command: int, attributes: bytes) -> int:
    """bpf(2): a file descriptor or zero. OSError as the kernel gives it."""
    number = SYSCALL.get(platform.machine())
    if number is None:
        raise NotImplementedError(platform.machine())
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(attributes.ljust(ATTR_BYTES, b"\0"), ATTR_BYTES)
    result = libc.syscall(ctypes.c_long(number), ctypes.c_int(command), buffer, ATTR_BYTES)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return int(result)


def probe_map() -> None:
    """Create a map and let it go."""
    os.close(bpf(MAP_CREATE, struct.pack("<IIII", MAP_TYPE_ARRAY, 4, 8, 1)))


def probe_program(kind: int) -> None:
    """Load a program of two instructions and let it go."""
    code = ctypes.create_string_buffer(PROGRAM, len(PROGRAM))
    license_ = ctypes.create_string_buffer(b"GPL")
    attributes = struct.pack(
        "<IIQQ",
        kind,
        len(PROGRAM) // 8,
        ctypes.addressof(code),
        ctypes.addressof(license_),
    )
    os.close(bpf(PROG_LOAD, attributes))


def pinned_program(path: str) -> int | None:
    """The id of the program that the link pinned at `path` attaches, if it is a link."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    descriptor = bpf(OBJ_GET, struct.pack("<QII", ctypes.addressof(name), 0, 0))
    try:
        # kernel/bpf/syscall.c: a link that is opened anew has the first name, a new one the second
        if os.readlink(f"/proc/self/fd/{descriptor}") not in LINKS:
            return None
        info = ctypes.create_string_buffer(12)  # type, id, prog_id
        bpf(
            OBJ_GET_INFO_BY_FD,
            struct.pack("<IIQ", descriptor, len(info), ctypes.addressof(info)),
        )
        return int(struct.unpack("<III", info.raw)[2])
    finally:
        os.close(descriptor)


def attributes_of(data: bytes) -> t.Iterator[tuple[int, bytes]]:
    """Type and payload of each netlink attribute in `data`."""
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            return
        yield kind & NLA_TYPE_MASK, data[4:length]
        data = data[(length + 3) & ~3 :]


def xdp_program(interface: str) -> int:
    """The id of the XDP program on `interface`, or zero."""
    index = socket.if_nametoindex(interface)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.bind((0, 0))
        link = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, 0, 0)
        netlink.send(struct.pack("=IHHII", 16 + len(link), RTM_GETLINK, NLM_F_REQUEST, 1, 0) + link)
        reply = netlink.recv(1 << 16)
    length, kind = struct.unpack_from("=IH", reply)
    if kind == NLMSG_ERROR:
        error = -struct.unpack_from("=i", reply, 16)[0]
        raise OSError(error, os.strerror(error))
    for attribute, payload in attributes_of(reply[32:length]):
        if attribute == IFLA_XDP:
            for inner, value in attributes_of(payload):
                if inner == IFLA_XDP_PROG_ID:
                    return int(struct.unpack_from("=I", value)[0])
    return 0
