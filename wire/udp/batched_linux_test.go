package udp

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOneReadTakesAllThatIsThere(t *testing.T) {
	on := system(newTransfer)
	a, b := on.listen(t, "127.0.0.1:0"), on.listen(t, "127.0.0.1:0")
	write(t, a, numbered(b, 100)...) // on the loopback they are there when this returns
	if got := readUpTo(t, b, 60); len(got) != 60 {
		t.Errorf("%d datagrams were read, want as many as there is room for, 60", len(got))
	}
	if got := readUpTo(t, b, 60); len(got) != 40 {
		t.Errorf("%d datagrams were read, want the other 40", len(got))
	}
}

func TestSourceIsReadAsTheSystemWritesIt(t *testing.T) {
	here, err := net.InterfaceByIndex(1)
	if err != nil {
		t.Fatal(err)
	}
	r := reader{zones: make(map[uint32]string)}
	for _, test := range []struct {
		family uint16
		ip     string
		scope  uint32
		want   string
	}{
		{unix.AF_INET, "192.0.2.1", 0, "192.0.2.1:4747"},
		{unix.AF_INET6, "2001:db8::1", 0, "[2001:db8::1]:4747"},
		{unix.AF_INET6, "::ffff:192.0.2.1", 0, "192.0.2.1:4747"},
		{unix.AF_INET6, "fe80::1", 1, "[fe80::1%" + here.Name + "]:4747"},
		{unix.AF_INET6, "fe80::1", 1 << 30, "[fe80::1%1073741824]:4747"}, // it went away since
	} {
		var name [unix.SizeofSockaddrInet6]byte
		binary.NativeEndian.PutUint16(name[:], test.family)
		binary.BigEndian.PutUint16(name[2:], 4747)
		copy(name[4:], netip.MustParseAddr(test.ip).AsSlice())
		if test.family == unix.AF_INET6 {
			copy(name[4:], []byte{0x12, 0x34, 0x56, 0x78}) // the flow
			copy(name[8:], netip.MustParseAddr(test.ip).AsSlice())
			binary.NativeEndian.PutUint32(name[24:], test.scope)
		}
		for range 2 { // the second time from memory
			if got := r.source(&name); got != netip.MustParseAddrPort(test.want) {
				t.Errorf("%s is read as %v, want %s", test.ip, got, test.want)
			}
		}
	}
}
