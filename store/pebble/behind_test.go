package pebble

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"timberline/events"
	"timberline/projections"
)

// quietItem returns an item of a user that nobody is told of.
func quietItem(user int, size int) projections.Stored {
	i := projections.Item{First: 1, Checkpoint: 1, Entries: []projections.Entry{{Event: make([]byte, size)}}}
	item := i.Encode(projections.Timeline{Version: 1, User: events.User(fmt.Sprintf("user%d", user))})
	item.Quiet = true
	return item
}

// What nobody waits for may fill many blocks of the log before its sync is asked for. A disk
// that is full then is an error as any, and Pebble is not left to panic.
func TestFullDiskUnderQuietItemsIsAnError(t *testing.T) {
	for name, kinds := range map[string][]errorfs.OpKind{
		"sync":  {errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo},
		"write": {errorfs.OpFileWrite},
	} {
		t.Run(name, func(t *testing.T) {
			f := &failures{suffix: ".log", kinds: kinds}
			s := openMem(t, Options{FS: errorfs.Wrap(vfs.NewMem(), f), OnFatal: func(error) {}})
			f.on.Store(true)
			for range 3 {
				if err := s.PutItems(t.Context(), []projections.Stored{quietItem(1, 50<<10), quietItem(2, 50<<10)}); !errors.Is(err, events.ErrFatal) {
					t.Errorf("put: %v, want ErrFatal", err)
				}
			}
			f.on.Store(false)
			s.Close()
		})
	}
}

// The rebuilds of several shards put at the same time. Who waits for room stands still where
// time is not the real one, too, so that others' time goes on.
func TestQuietItemsArePutInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openMem(t, Options{})
		done := make(chan error)
		for user := range 3 {
			go func() { done <- s.PutItems(t.Context(), []projections.Stored{quietItem(user, 10)}) }()
		}
		for range 3 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}
