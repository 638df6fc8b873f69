package pebble

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"timberline/events"
	"timberline/migrations"
)

func applied(t *testing.T, s *Store) []migrations.Record {
	t.Helper()
	all, err := s.Applied(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestFormatIsTheNumberOfTheLastStep(t *testing.T) {
	steps := new(Store).Steps()
	for i, step := range steps {
		if int(step.Number) != i+1 || step.Name == "" || step.Changes == "" || step.Costs == "" {
			t.Errorf("step %d: %+v", i+1, step)
		}
	}
	if len(steps) != DataFormat {
		t.Errorf("%d steps, the format is %d", len(steps), DataFormat)
	}
}

func TestOpenAppliesStepsAndRecordsThem(t *testing.T) {
	fs := vfs.NewCrashableMem()
	before := time.Now().Truncate(time.Millisecond)
	s := openMem(t, Options{FS: fs})
	defer s.Close()
	clone := fs.CrashClone(vfs.CrashCloneCfg{}) // all of it is durable
	for _, s := range []*Store{s, openMem(t, Options{FS: clone})} {
		all := applied(t, s)
		if len(all) != DataFormat || all[0].Name != "data folder" || all[0].Applied.Before(before) || all[0].Program == "" {
			t.Errorf("%+v: want step 1, of now, by this program", all)
		}
		if err := migrations.Check(t.Context(), s); err != nil {
			t.Error(err)
		}
	}
}

func TestFolderFromBeforeThereWereRecordsIsOpened(t *testing.T) {
	fs := vfs.NewMem()
	s := openMem(t, Options{FS: fs})
	is := s.Meta()
	if err := s.db.Delete(stepKey(1), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = openMem(t, Options{FS: fs})
	defer s.Close()
	if s.Meta() != is {
		t.Errorf("the store is %+v, was %+v", s.Meta(), is)
	}
	if all := applied(t, s); len(all) != DataFormat || all[0].Number != 1 || !all[0].Applied.IsZero() {
		t.Errorf("%+v: want all steps, the first applied at nobody knows when", all)
	}
}

func TestFolderOfTheFirstFormatIsBroughtUpToDate(t *testing.T) {
	fs := vfs.NewMem()
	s := openMem(t, Options{FS: fs})
	is, m := s.Meta(), s.meta
	m.format = 1
	if err := errors.Join(s.db.Delete(stepKey(2), pebble.Sync), s.writeMeta(s.db.NewBatch(), m), s.Close()); err != nil {
		t.Fatal(err)
	}
	s = openMem(t, Options{FS: fs})
	defer s.Close()
	if s.Meta() != is || s.meta.format != DataFormat || len(applied(t, s)) != DataFormat {
		t.Errorf("the store is %+v of format %d, was %+v; applied: %+v", s.Meta(), s.meta.format, is, applied(t, s))
	}
}

func TestStepsAreLeftPendingWhereAsked(t *testing.T) {
	fs := vfs.NewMem()
	s := openMem(t, Options{FS: fs, LeavePending: true})
	pending, err := migrations.Plan(t.Context(), s)
	if err != nil || len(pending) != DataFormat {
		t.Errorf("%d steps are pending, %v; want %d", len(pending), err, DataFormat)
	}
	s.Close()
	s = openMem(t, Options{FS: fs, LeavePending: true, Shards: 5})
	defer s.Close()
	if err := migrations.Up(t.Context(), s, time.Now, nil); err != nil {
		t.Fatal(err)
	}
	if m := s.Meta(); m.Shards != 5 || m.Store == (events.StoreID{}) {
		t.Errorf("%+v: want a new store with 5 shards", m)
	}
}

// A step is applied or not, wherever power fails.
func TestCrashWhileAStoreIsMadeLeavesNoneOrAWholeOne(t *testing.T) {
	made := 0
	for seed := range uint64(40) {
		fs := vfs.NewCrashableMem()
		s := openMem(t, Options{FS: fs, LeavePending: true})
		clones := []*vfs.MemFS{fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: int(seed%5) * 25, RNG: rand.New(rand.NewPCG(seed, 0))})}
		if err := migrations.Up(t.Context(), s, time.Now, nil); err != nil {
			t.Fatal(err)
		}
		clones = append(clones, fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: int(seed%5) * 25, RNG: rand.New(rand.NewPCG(seed, 0))}))
		id := s.Meta().Store
		s.Close()
		for _, clone := range clones {
			s := openMem(t, Options{FS: clone})
			if len(applied(t, s)) != DataFormat || s.Meta().Store == (events.StoreID{}) || s.Meta().Shards != 1 {
				t.Errorf("seed %d: %+v, %+v", seed, s.Meta(), applied(t, s))
			}
			if s.Meta().Store == id {
				made++
			}
			s.Close()
		}
	}
	if made != 40 {
		t.Errorf("%d stores were found again, want those of all 40 that were made", made)
	}
}

func TestFolderThatIsHalfRestoredIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	s := openMem(t, Options{FS: fs})
	was := s.Meta()
	for want, id := range map[migrations.Phase]events.StoreID{migrations.Emptying: {1}, migrations.Filling: {2}} {
		s.Close()
		s = openMem(t, Options{FS: fs, Restored: true})
		if err := s.SetPhase(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		phase, err := s.BeginRestore(context.Background(), id)
		if err != nil || phase != want {
			t.Errorf("phase %d, %v; want %d", phase, err, want)
		}
		s.Close()
		wantOpenError(t, fs, migrations.ErrRestoring.Error())
		if _, err := Open("data", Options{FS: fs}); !errors.Is(err, migrations.ErrRestoring) {
			t.Errorf("%v, want ErrRestoring", err)
		}
		s = openMem(t, Options{FS: fs, Restored: true})
		if m := s.Meta(); m.Store != id || m.Shards != was.Shards {
			t.Errorf("%+v, want %v", m, id)
		}
	}
	if err := s.SetPhase(t.Context(), migrations.Whole); err != nil {
		t.Fatal(err)
	}
	s.Close()
	openMem(t, Options{FS: fs}).Close()
}
