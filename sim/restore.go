package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/events"
	"timberline/migrations"
	"timberline/sim/check"
	"timberline/sim/network"
)

// A copied is a copy of the store: a whole folder, on the disk of the server, or an older
// state of that disk.
type copied struct {
	has    *check.Copy
	folder string
	image  *vfs.MemFS
}

// backUp has the store make a copy of itself.
func (b *boot) backUp(w *whole) error {
	has := b.w.history.Copy()
	b.server.backups++
	folder := fmt.Sprintf("backups/%d", b.server.backups)
	_, err := do(w.access(writer, "back up"), func() (none struct{}, err error) { return none, b.store.Backup(folder) })
	if err == nil {
		b.w.note("%s has backed up to %s", w.p.name, folder)
		b.server.copied = &copied{has: has, folder: folder}
	}
	return err
}

// image takes what a crash would leave of the disk.
func (b *boot) image() {
	b.server.copied = &copied{has: b.w.history.Copy(), image: b.disk.mem.CrashClone(vfs.CrashCloneCfg{})}
}

// restore loses the disk, and puts the newest copy in its place, if there is one.
func (s *server) restore(ctx context.Context) error {
	c := s.copied
	if c == nil {
		return nil
	}
	s.w.note("the disk is lost, a copy takes its place: %s", map[bool]string{true: "an image", false: c.folder}[c.image != nil])
	s.w.count(&s.w.outcome.Restores)
	left := c.image
	if left == nil {
		left = vfs.NewCrashableMem()
		if ok, err := vfs.Clone(s.left, left, c.folder, dataFolder, vfs.CloneSync); err != nil || !ok {
			return fmt.Errorf("the backup %s is there: %v, %w", c.folder, ok, err)
		}
	} else {
		left = left.CrashClone(vfs.CrashCloneCfg{}) // the image itself may be needed again
	}
	s.left = left
	for tries := 1; ctx.Err() == nil; tries++ {
		done, err := s.makeWhole(ctx, c, tries)
		if err != nil || done {
			return err
		}
		if sleep(ctx, between(s.w.draws.next("restored"), time.Millisecond, 100*time.Millisecond)) != nil {
			return nil
		}
	}
	return nil
}

// makeWhole restores the store once, and reports whether that is done. The first try is
// interrupted.
func (s *server) makeWhole(ctx context.Context, c *copied, try int) (done bool, err error) {
	s.boots++
	b, err := newBoot(ctx, s, s.boots, true)
	defer b.cancel()
	if err != nil {
		return false, fmt.Errorf("restore: %w", err)
	}
	var id events.StoreID
	b.disk.slow.Store(true)
	b.work(fmt.Sprintf("restore, try %d", try), func(p *process) {
		if try == 1 {
			s.w.net.At(between(s.w.draws.next("restore is killed"), time.Microsecond, 300*time.Millisecond), func() {
				if chance(s.w.draws.next("restore crashes"), 0.5) {
					b.lose()
				}
				p.die()
			})
		}
		var r migrations.Restoration
		r, err = migrations.Restore(b.ctx, &whole{engine: p.engine}, migrations.RestoreConfig{Random: network.Random(s.w.seed, b.name+" restores"), Pause: 10 * time.Millisecond})
		id, done = r.Store, err == nil && !p.isDead()
	})
	b.finish()
	b.disk.slow.Store(false)
	if done {
		s.w.history.Replaced(id, c.has)
		if err := s.w.archive.replaced(ctx, b.store, id); err != nil {
			return false, err
		}
		s.w.note("the store is restored")
	} else if events.Final(err) && !errors.Is(err, events.ErrFatal) {
		return false, err
	}
	err = b.close()
	s.left = b.remains()
	return done, err
}
