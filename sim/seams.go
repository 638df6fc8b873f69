package sim

import (
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/client"
	"timberline/cmd/node"
	"timberline/sim/network"
	"timberline/wire"
)

// Seams are the places where a test can put something between the parts of a run,
// such as a disk that lies. A field that is nil changes nothing.
type Seams struct {
	Disk   func(vfs.FS) vfs.FS                         // below each process of the server
	Engine func(node.Engine) node.Engine               // above its store
	Conn   func(wire.PacketConn) wire.PacketConn       // below its edge
	Random func(seed uint64, process string) io.Reader // for each of its processes
	Outbox func(client.Store) client.Store             // below each life of a device
	Drawn  func(io.Reader) io.Reader                   // what each life draws its keys from
}

func through[T any](seam func(T) T, x T) T {
	if seam == nil {
		return x
	}
	return seam(x)
}

func (s *Seams) random(seed uint64, process string) io.Reader {
	if s.Random == nil {
		return network.Random(seed, process)
	}
	return s.Random(seed, process)
}
