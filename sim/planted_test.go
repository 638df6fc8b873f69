package sim

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/client"
	"timberline/cmd/node"
	"timberline/events"
	"timberline/projections"
	"timberline/sim/check"
	"timberline/sim/network"
	"timberline/wire"
)

// within is how many seeds a bug may take to be caught.
const within = 10

// wantCaught runs seeds with a bug planted until one fails for a promise that the
// bug breaks.
func wantCaught(t *testing.T, bug func() *Seams, promise check.Kind) {
	t.Helper()
	wantError(t, bug, string(promise)+": ")
}

func wantError(t *testing.T, bug func() *Seams, text string) {
	t.Helper()
	if raceEnabled {
		t.Skip("what is found follows from the seed: make sim has it")
	}
	for seed := uint64(1); seed <= within; seed++ {
		o := Run(t, seed, bug())
		if o.Err() == nil {
			continue
		}
		if strings.Contains(o.Err().Error(), text) {
			t.Logf("caught by seed %d", seed)
			return
		}
		t.Logf("seed %d fails, but says nothing of %q: %v", seed, text, o.Err())
	}
	t.Errorf("no seed up to %d says %q", within, text)
}

// A lyingDisk says that a write-ahead log is synced, and does nothing.
type lyingDisk struct{ vfs.FS }

func (d lyingDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	if err == nil && isLog(name) {
		f = lyingFile{f}
	}
	return f, err
}

type lyingFile struct{ vfs.File }

func (lyingFile) Sync() error     { return nil }
func (lyingFile) SyncData() error { return nil }

func TestCatchesAcksBeforeTheSync(t *testing.T) {
	wantCaught(t, func() *Seams {
		return &Seams{Disk: func(fs vfs.FS) vfs.FS { return lyingDisk{fs} }}
	}, check.Lost)
}

// A rashEngine takes failed appends for done.
type rashEngine struct{ node.Engine }

func (e rashEngine) Append(ctx context.Context, j events.Journal, at events.Offset, rec events.Record) (events.Record, error) {
	stands, err := e.Engine.Append(ctx, j, at, rec)
	if errors.Is(err, errAnswer) {
		err = nil
	}
	return stands, err
}

func TestCatchesAppendsTakenForDone(t *testing.T) {
	wantCaught(t, func() *Seams {
		return &Seams{Engine: func(e node.Engine) node.Engine { return rashEngine{e} }}
	}, check.Lost)
}

// A leakyEngine loses the last item of every tenth checkpoint.
type leakyEngine struct{ node.Engine }

func (e leakyEngine) Commit(ctx context.Context, s projections.Shard, n projections.CheckpointNumber, checkpoint []byte, items []projections.Stored) ([]byte, error) {
	if n%10 == 0 && len(items) > 1 {
		items = items[:len(items)-1]
	}
	return e.Engine.Commit(ctx, s, n, checkpoint, items)
}

func TestCatchesItemsLostFromTimelines(t *testing.T) {
	wantCaught(t, func() *Seams {
		return &Seams{Engine: func(e node.Engine) node.Engine { return leakyEngine{e} }}
	}, check.Lost)
}

func TestCatchesProcessesThatDrawTheSameIds(t *testing.T) {
	wantCaught(t, func() *Seams {
		return &Seams{Random: func(seed uint64, _ string) io.Reader { return network.Random(seed, "all alike") }}
	}, check.OutOfOrder)
}

// A forgetfulOutbox keeps nothing of one kind of changes.
type forgetfulOutbox struct {
	client.Store
	forgets func(client.Change) bool
}

func (s forgetfulOutbox) Save(changes []client.Change) error {
	return s.Store.Save(slices.DeleteFunc(slices.Clone(changes), s.forgets))
}

func TestCatchesOutboxesThatForgetTheirSession(t *testing.T) {
	wantCaught(t, func() *Seams {
		return &Seams{Outbox: func(s client.Store) client.Store {
			return forgetfulOutbox{s, func(c client.Change) bool { return c.Session != nil }}
		}}
	}, check.Doubled)
}

func TestCatchesOutboxesThatForgetSends(t *testing.T) {
	wantError(t, func() *Seams {
		return &Seams{Outbox: func(s client.Store) client.Store {
			return forgetfulOutbox{s, func(c client.Change) bool { return c.Send != nil }}
		}}
	}, "have no answer")
}

// A hastyOutbox says that the app has taken one entry more than it has.
type hastyOutbox struct{ client.Store }

func (s hastyOutbox) Load() (client.Saved, error) {
	saved, err := s.Store.Load()
	if saved.Cursor.Seq > 0 {
		saved.Cursor.Seq++
	}
	return saved, err
}

func TestCatchesCursorsAheadOfTheApp(t *testing.T) {
	wantCaught(t, func() *Seams {
		return &Seams{Outbox: func(s client.Store) client.Store { return hastyOutbox{s} }}
	}, check.Gap)
}

// A damagingConn changes what the server sends.
type damagingConn struct{ wire.PacketConn }

func (c damagingConn) WriteBatch(ds []wire.Datagram) error {
	for i := range ds {
		ds[i].Data = bytes.Replace(ds[i].Data, []byte("..."), []byte(".!."), 1)
	}
	return c.PacketConn.WriteBatch(ds)
}

func TestCatchesBodiesThatChangeOnTheirWay(t *testing.T) {
	wantCaught(t, func() *Seams {
		return &Seams{Conn: func(c wire.PacketConn) wire.PacketConn { return damagingConn{c} }}
	}, check.Foreign)
}

// A swappingConn exchanges the numbers of the first two whole sends in a packet.
type swappingConn struct{ wire.PacketConn }

func (c swappingConn) ReadBatch(ds []wire.Datagram) (int, error) {
	n, err := c.PacketConn.ReadBatch(ds)
	for i := range ds[:n] {
		swap(&ds[i])
	}
	return n, err
}

func swap(d *wire.Datagram) {
	p, err := wire.Decode(bytes.Clone(d.Data))
	if err != nil {
		return
	}
	var sends []*wire.Send
	for _, f := range p.Frames {
		if s, ok := f.(*wire.Send); ok && s.Fragments < 2 {
			sends = append(sends, s)
		}
	}
	if len(sends) < 2 {
		return
	}
	sends[0].Number, sends[1].Number = sends[1].Number, sends[0].Number
	if data := p.Encode(); len(data) <= wire.MaxPacket {
		d.Data = append(d.Data[:0], data...)
	}
}

func TestCatchesSendsOutOfOrder(t *testing.T) {
	wantCaught(t, func() *Seams {
		return &Seams{Conn: func(c wire.PacketConn) wire.PacketConn { return swappingConn{c} }}
	}, check.OutOfOrder)
}

// A spoilingConn makes every recipient one that cannot be.
type spoilingConn struct{ wire.PacketConn }

func (c spoilingConn) ReadBatch(ds []wire.Datagram) (int, error) {
	n, err := c.PacketConn.ReadBatch(ds)
	for i := range ds[:n] {
		p, damage := wire.Decode(bytes.Clone(ds[i].Data))
		if damage != nil {
			continue
		}
		spoilt := false
		for _, f := range p.Frames {
			if s, ok := f.(*wire.Send); ok && s.To != "" {
				s.To, spoilt = "n!", true
			}
		}
		if data := p.Encode(); spoilt && len(data) <= wire.MaxPacket {
			ds[i].Data = append(ds[i].Data[:0], data...)
		}
	}
	return n, err
}

func TestCatchesAServerThatRefusesEverything(t *testing.T) {
	wantError(t, func() *Seams {
		return &Seams{Conn: func(c wire.PacketConn) wire.PacketConn { return spoilingConn{c} }}
	}, "messages were refused")
}
