package sim

import (
	"math/rand/v2"
	"os"
	"path/filepath"

	"timberline/client"
)

// An outbox is what a device keeps from life to life: in a file, or in memory.
type outbox struct {
	memory *client.Memory
	path   string // of the file; empty: in memory
}

// open returns the store of a life.
func (o *outbox) open() (client.Store, error) {
	if o.path == "" {
		return o.memory, nil
	}
	return client.OpenFile(o.path, client.FileOptions{})
}

// lastSave is the save in which a process is killed: it survives, or it is cut off at
// a byte that is drawn.
func (o *outbox) lastSave(save func() error, survives bool, r *rand.Rand) error {
	if survives {
		return save()
	}
	if o.path == "" {
		return nil
	}
	before, err := os.Stat(o.path)
	if err != nil {
		return err
	}
	if err := save(); err != nil {
		return err
	}
	after, err := os.Stat(o.path)
	if err != nil || after.Size() <= before.Size() {
		return err // it was written anew: that is done as a whole
	}
	return os.Truncate(o.path, before.Size()+r.Int64N(after.Size()-before.Size()))
}

// look returns what the next life will find. The one before may have the file open.
func (o *outbox) look() (client.Saved, error) {
	if o.path == "" {
		return o.memory.Load()
	}
	data, err := os.ReadFile(o.path)
	if err != nil {
		return client.Saved{}, err
	}
	copied := filepath.Join(filepath.Dir(o.path), "look")
	if err := os.WriteFile(copied, data, 0o600); err != nil {
		return client.Saved{}, err
	}
	defer os.Remove(copied)
	f, err := client.OpenFile(copied, client.FileOptions{})
	if err != nil {
		return client.Saved{}, err
	}
	defer f.Close()
	return f.Load()
}
