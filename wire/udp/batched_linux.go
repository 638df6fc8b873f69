package udp

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"timberline/wire"
)

// newTransfer returns the system's own.
func newTransfer(conn *net.UDPConn) (transfer, error) { return newBatched(conn) }

// batched is the transfer of Linux: recvmmsg and sendmmsg.
//
// It writes through x/net, but reads by itself: x/net makes a net.Addr of each
// datagram's source, which is two allocations.
type batched struct {
	reader
	*queue
	one single
	out *ipv4.PacketConn // its batches are those of IPv6, too
}

func newBatched(conn *net.UDPConn) (transfer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	b := &batched{
		reader: reader{raw: raw, zones: make(map[uint32]string)}, queue: newQueue(raw),
		one: single{conn}, out: ipv4.NewPacketConn(conn),
	}
	b.receive = b.recvmmsg
	return b, nil
}

// A reader is what recvmmsg needs, kept from call to call.
type reader struct {
	raw     syscall.RawConn
	receive func(fd uintptr) (done bool) // recvmmsg, bound once
	zones   map[uint32]string            // names of interfaces, of link-local sources

	headers []unix.Mmsghdr
	pieces  []unix.Iovec
	names   [][unix.SizeofSockaddrInet6]byte // the sources; those of IPv4 are shorter
	n       int
	errno   syscall.Errno
}

func (r *reader) read(ds []wire.Datagram) (int, error) {
	r.prepare(ds)
	if err := r.raw.Read(r.receive); err != nil {
		return 0, err
	}
	if r.errno != 0 {
		return 0, os.NewSyscallError("recvmmsg", r.errno)
	}
	for i := range ds[:r.n] {
		ds[i].Data = ds[i].Data[:r.headers[i].Len]
		ds[i].Addr = r.source(&r.names[i])
	}
	return r.n, nil
}

// prepare says where the datagrams and their sources go.
func (r *reader) prepare(ds []wire.Datagram) {
	if n := len(ds); n > cap(r.headers) {
		r.headers, r.pieces = make([]unix.Mmsghdr, n), make([]unix.Iovec, n)
		r.names = make([][unix.SizeofSockaddrInet6]byte, n)
	}
	r.headers = r.headers[:len(ds)]
	for i := range ds {
		piece, h := &r.pieces[i], &r.headers[i].Hdr
		piece.Base = &ds[i].Data[0]
		piece.SetLen(len(ds[i].Data))
		h.Iov = piece
		h.SetIovlen(1)
		h.Name, h.Namelen = &r.names[i][0], unix.SizeofSockaddrInet6
	}
}

// recvmmsg is called when the socket may have datagrams.
func (r *reader) recvmmsg(fd uintptr) (done bool) {
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&r.headers[0])), uintptr(len(r.headers)), 0, 0, 0)
	r.n, r.errno = int(n), errno
	return errno != unix.EAGAIN && errno != unix.EINTR
}

// source reads a sockaddr. A socket of both families has IPv4 addresses mapped.
func (r *reader) source(name *[unix.SizeofSockaddrInet6]byte) netip.AddrPort {
	port := binary.BigEndian.Uint16(name[2:])
	if binary.NativeEndian.Uint16(name[:]) == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(name[4:])), port)
	}
	a := netip.AddrFrom16([16]byte(name[8:])).Unmap()
	if scope := binary.NativeEndian.Uint32(name[24:]); scope != 0 {
		a = a.WithZone(r.zone(scope))
	}
	return netip.AddrPortFrom(a, port)
}

// zone returns the name of an interface, as addresses have it.
func (r *reader) zone(index uint32) string {
	name, known := r.zones[index]
	if !known {
		name = strconv.Itoa(int(index))
		if i, err := net.InterfaceByIndex(int(index)); err == nil {
			name = i.Name
		}
		r.zones[index] = name
	}
	return name
}

// An outgoing is the form in which x/net takes datagrams.
type outgoing struct {
	messages [outgoingSize]ipv4.Message
	pieces   [outgoingSize][1][]byte
	addrs    [outgoingSize]net.UDPAddr
	ips      [outgoingSize][16]byte
}

// outgoingSize bounds the datagrams of one sendmmsg.
const outgoingSize = 64

var outgoings = sync.Pool{New: func() any { return new(outgoing) }}

var errNoAddress = errors.New("datagram has no address")

// write waits while the socket's buffer is full.
func (b *batched) write(ds []wire.Datagram) (int, error) {
	if len(ds) == 1 {
		return b.one.write(ds) // sendmmsg takes longer
	}
	o := outgoings.Get().(*outgoing)
	defer outgoings.Put(o)
	ms := o.fill(ds)
	if len(ms) == 0 {
		return 0, errNoAddress
	}
	n, err := b.out.WriteBatch(ms, 0)
	clear(o.pieces[:len(ms)]) // they are the caller's again
	return max(n, 0), err
}

// fill returns the first datagrams, up to one without an address.
func (o *outgoing) fill(ds []wire.Datagram) []ipv4.Message {
	for i := range min(len(ds), outgoingSize) {
		d, a := &ds[i], &o.addrs[i]
		if !d.Addr.IsValid() {
			return o.messages[:i]
		}
		o.ips[i] = d.Addr.Addr().As16() // of IPv4 addresses x/net makes such again
		a.IP, a.Port, a.Zone = o.ips[i][:], int(d.Addr.Port()), d.Addr.Addr().Zone()
		o.pieces[i][0] = d.Data
		o.messages[i].Buffers, o.messages[i].Addr = o.pieces[i][:], a
	}
	return o.messages[:min(len(ds), outgoingSize)]
}
