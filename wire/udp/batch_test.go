package udp

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"timberline/wire"
)

// numbered returns datagrams to c that say which one they are.
func numbered(c *Conn, n int) []wire.Datagram {
	ds := make([]wire.Datagram, n)
	for i := range ds {
		ds[i] = wire.Datagram{Addr: c.LocalAddr(), Data: strconv.AppendInt(nil, int64(i), 10)}
	}
	return ds
}

func TestBatchesArriveWholeAndInOrder(t *testing.T) {
	for _, n := range []int{1, 2, 64, 65, 200} {
		each(t, func(t *testing.T, on system) {
			a, b := on.listen(t, "127.0.0.1:0"), on.listen(t, "127.0.0.1:0")
			write(t, a, numbered(b, n)...)
			var got []wire.Datagram
			for most := 1; len(got) < n; most = most%7 + 1 { // a reader may come with fewer, or more than before
				got = append(got, readUpTo(t, b, most)...)
			}
			for i, d := range got {
				if string(d.Data) != strconv.Itoa(i) || d.Addr != a.LocalAddr() {
					t.Errorf("as number %d came %q from %v, want it from %v", i, d.Data, d.Addr, a.LocalAddr())
				}
			}
		})
	}
}

func TestManyMayWrite(t *testing.T) {
	each(t, func(t *testing.T, on system) {
		a, b := on.listen(t, "127.0.0.1:0"), on.listen(t, "127.0.0.1:0")
		const writers, batches, size = 4, 5, 10
		for range writers {
			go func() {
				for range batches {
					write(t, a, numbered(b, size)...)
				}
			}()
		}
		seen := make(map[string]int)
		for n := 0; n < writers*batches*size; {
			for _, d := range readUpTo(t, b, 8) {
				seen[string(d.Data)]++
				n++
			}
		}
		for i := range size {
			if n := seen[strconv.Itoa(i)]; n != writers*batches {
				t.Errorf("number %d came %d times, want %d", i, n, writers*batches)
			}
		}
	})
}

// A script is a transfer that does what the test says.
type script struct {
	most   int              // datagrams that a call takes
	refuse map[string]error // what cannot be sent
	sent   []string
	reads  []error
}

func (s *script) write(ds []wire.Datagram) (int, error) {
	for i, d := range ds[:min(len(ds), s.most)] {
		if err := s.refuse[string(d.Data)]; err != nil {
			if i > 0 {
				return i, nil // as sendmmsg does: the error comes with the next call
			}
			return 0, err
		}
		s.sent = append(s.sent, string(d.Data))
	}
	return min(len(ds), s.most), nil
}

func (s *script) backlog() (float64, uint32) { return 0, 0 }

func (s *script) read([]wire.Datagram) (int, error) {
	err := s.reads[0]
	s.reads = s.reads[1:]
	if err != nil {
		return 0, err
	}
	return 1, nil
}

// refused returns an error as the system's sockets have it.
func refused(call string, errno syscall.Errno) error {
	return &net.OpError{Op: call, Net: "udp", Err: os.NewSyscallError(call, errno)}
}

func TestWriteGoesOnBehindWhatTheSystemRefuses(t *testing.T) {
	causes := []syscall.Errno{syscall.ECONNREFUSED, syscall.EMSGSIZE, syscall.EPERM, syscall.ENETUNREACH, syscall.EINVAL, syscall.ENOBUFS}
	for most := 1; most <= 8; most++ {
		for _, bad := range [][]string{nil, {"0"}, {"7"}, {"3"}, {"0", "1", "5", "7"}, {"0", "1", "2", "3", "4", "5", "6", "7"}} {
			s := &script{most: most, refuse: make(map[string]error)}
			for i, data := range bad {
				s.refuse[data] = refused("sendmmsg", causes[i%len(causes)])
			}
			var ds []wire.Datagram
			var want []string
			for i := range 8 {
				data := strconv.Itoa(i)
				ds = append(ds, wire.Datagram{Data: []byte(data)})
				if s.refuse[data] == nil {
					want = append(want, data)
				}
			}
			if err := (&Conn{via: s}).WriteBatch(ds); err != nil || !slices.Equal(s.sent, want) {
				t.Errorf("%d a call, refused %v: sent %v, want %v, without an error: %v", most, bad, s.sent, want, err)
			}
		}
	}
}

func TestWriteEndsWhenTheSocketIsClosed(t *testing.T) {
	s := &script{most: 8, refuse: map[string]error{"b": fmt.Errorf("wrapped: %w", net.ErrClosed)}}
	err := (&Conn{via: s}).WriteBatch([]wire.Datagram{{Data: []byte("a")}, {Data: []byte("b")}, {Data: []byte("c")}})
	if err != net.ErrClosed || !slices.Equal(s.sent, []string{"a"}) {
		t.Errorf("sent %v with %v, want a and net.ErrClosed", s.sent, err)
	}
}

func TestReadGoesOnAfterAnErrorAboutADatagram(t *testing.T) {
	s := &script{}
	for _, errno := range []syscall.Errno{syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EMSGSIZE} {
		s.reads = append(s.reads, refused("recvmmsg", errno))
	}
	s.reads = append(s.reads, nil)
	if n, err := (&Conn{via: s}).ReadBatch(room(1)); n != 1 || err != nil {
		t.Errorf("%d datagrams and %v, want the one behind the errors", n, err)
	}
}

func TestReadEndsWithTheSocket(t *testing.T) {
	on := system(newTransfer)
	c := on.listen(t, "127.0.0.1:0")
	c.via = &script{reads: []error{refused("recvmmsg", syscall.EBADF)}}
	if _, err := c.ReadBatch(room(1)); !errors.Is(err, syscall.EBADF) {
		t.Errorf("read: %v, want that the descriptor is bad", err)
	}
}
