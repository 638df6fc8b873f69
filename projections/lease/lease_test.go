package lease_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"timberline/projections/lease"
	"timberline/projections/lease/leasetest"
)

// A memory is leases of which fail, if it is not nil, says which calls fail.
type memory struct {
	leasetest.Memory
	takes time.Duration // each call
	mu    sync.Mutex
	fail  func() (applied bool, err error)
}

func (m *memory) disturb(fail func() (applied bool, err error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = fail
}

// fails asks fail.
func (m *memory) fails() (applied bool, err error) {
	time.Sleep(m.takes)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail == nil {
		return true, nil
	}
	return m.fail()
}

func (m *memory) ListLeases(ctx context.Context, kind string) ([]lease.Lease, error) {
	if _, err := m.fails(); err != nil {
		return nil, err
	}
	return m.Memory.ListLeases(ctx, kind)
}

func (m *memory) PutLease(ctx context.Context, was, is lease.Lease) error {
	applied, err := m.fails()
	if applied {
		if conflict := m.Memory.PutLease(ctx, was, is); err == nil {
			return conflict
		}
	}
	return err
}

// A party is processes that share leases.
type party struct {
	t      *testing.T
	leases *memory
	names  []string
	random *rand.ChaCha8
	named  func(ctx context.Context) error // why names are not known; nil: they are

	mu   sync.Mutex
	held map[string][]string // by owner
}

func newParty(t *testing.T, leases int) *party {
	p := &party{t: t, leases: new(memory), random: rand.NewChaCha8([32]byte{1}), held: make(map[string][]string)}
	for i := range leases {
		p.names = append(p.names, fmt.Sprintf("%02d", i))
	}
	return p
}

// join starts a process. leave ends it in order, die at once.
func (p *party) join(owner string) (k *lease.Keeper, leave, die func()) {
	p.t.Helper()
	var dead atomic.Bool
	k, err := lease.NewKeeper(lease.Config{
		Leases: mortal{p.leases, &dead}, Kind: "work", Owner: owner, Random: p.random, Logger: slog.New(slog.DiscardHandler),
		Names: func(ctx context.Context, _ []lease.Lease) ([]string, error) {
			if p.named != nil {
				if err := p.named(ctx); err != nil {
					return nil, err
				}
			}
			return p.names, nil
		},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		k.Run(ctx, func(ls []lease.Lease) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.held[owner] = nil
			for _, l := range ls {
				p.held[owner] = append(p.held[owner], l.Name)
			}
		})
	}()
	leave = func() { cancel(); <-done }
	die = func() { dead.Store(true); leave() }
	p.t.Cleanup(leave)
	return k, leave, die
}

// A mortal process does nothing any more once it is dead.
type mortal struct {
	lease.Leases
	dead *atomic.Bool
}

func (m mortal) PutLease(ctx context.Context, was, is lease.Lease) error {
	if m.dead.Load() {
		return errors.New("dead")
	}
	return m.Leases.PutLease(ctx, was, is)
}

// want says that some processes hold every lease, each of them once, in shares that
// differ by one at the most.
func (p *party) want(why string, owners ...string) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	least, most := len(p.names), 0
	for _, owner := range owners {
		n := len(p.held[owner])
		least, most = min(least, n), max(most, n)
		all = append(all, p.held[owner]...)
	}
	if slices.Sort(all); !slices.Equal(all, p.names) || most-least > 1 {
		p.t.Errorf("%s: %v are held, want each of %v once, evenly by %v", why, p.held, p.names, owners)
	}
}

func TestLeasesAreSpreadAsProcessesComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, 7)
		_, leaveA, _ := p.join("a")
		time.Sleep(time.Second)
		p.want("the first takes all", "a")
		_, _, dieB := p.join("b")
		time.Sleep(10 * time.Second)
		p.want("the second takes its part", "a", "b")
		p.join("c")
		time.Sleep(10 * time.Second)
		p.want("so does the third", "a", "b", "c")
		leaveA()
		time.Sleep(3 * time.Second)
		p.want("what is given back is taken at once", "b", "c")
		dieB()
		time.Sleep(6 * time.Second)
		p.mu.Lock()
		if n := len(p.held["c"]); n > 4 {
			t.Errorf("c holds %d leases before those of the dead have stood for their length, want its old share", n)
		}
		p.mu.Unlock()
		time.Sleep(10 * time.Second)
		p.want("what the dead had is taken in the end", "c")
	})
}

func TestManyProcessesThatStartTogetherShareEvenly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, 32)
		var owners []string
		for i := range 8 {
			owners = append(owners, fmt.Sprint("p", i))
			p.join(owners[i])
		}
		time.Sleep(30 * time.Second)
		p.want("after some rounds", owners...)
	})
}

func TestShareOfAProcessThatIsCutOffIsGivenUpInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, 3)
		p.join("a")
		time.Sleep(time.Second)
		p.leases.disturb(func() (bool, error) { return false, errors.New("away") })
		time.Sleep(14 * time.Second)
		p.mu.Lock()
		defer p.mu.Unlock()
		if held := p.held["a"]; len(held) > 0 {
			t.Errorf("%v are held though they could not be renewed for longer than their length", held)
		}
	})
}

// What names the shards of a stream may be called ten times a second by all together, and
// those that are held can be read all the same.
func TestLeasesAreKeptWhileNobodyCanNameThem(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := newParty(t, 3)
			fails := make(chan struct{})
			p.named = func(ctx context.Context) error {
				select {
				case <-fails:
				default:
					return nil
				}
				if hangs {
					<-ctx.Done()
				}
				return errors.New("throttled")
			}
			p.join("a")
			time.Sleep(time.Second)
			close(fails)
			var last []lease.Lease
			for range 10 {
				time.Sleep(14 * time.Second)
				stand, err := p.leases.ListLeases(t.Context(), "work")
				if err != nil || slices.Equal(stand, last) {
					t.Errorf("%v: the leases %v are not renewed", err, stand)
				}
				last = stand
				p.want("while none can be named", "a")
			}
		})
	}
}

// A distant store takes its time for each put.
type distant struct{ lease.Leases }

func (d distant) PutLease(ctx context.Context, was, is lease.Lease) error {
	select {
	case <-time.After(5 * time.Millisecond):
		return d.Leases.PutLease(ctx, was, is)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestOneProcessHoldsAsManyLeasesAsThereAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leases, names := new(memory), make([]string, 4096)
		for i := range names {
			names[i] = fmt.Sprint(i)
		}
		k, err := lease.NewKeeper(lease.Config{
			Leases: distant{leases}, Kind: "work", Owner: "a", Random: rand.NewChaCha8([32]byte{1}), Logger: slog.New(slog.DiscardHandler),
			Names: func(context.Context, []lease.Lease) ([]string, error) { return names, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		held := 0
		k.Run(ctx, func(ls []lease.Lease) {
			if ctx.Err() == nil {
				held = len(ls)
			}
		})
		if held != len(names) {
			t.Errorf("%d of %d leases are held", held, len(names))
		}
		stand, _ := leases.ListLeases(t.Context(), "work")
		if kept := slices.IndexFunc(stand, func(l lease.Lease) bool { return l.Owner != "" }); kept >= 0 {
			t.Errorf("lease %s was not given back", stand[kept].Name)
		}
	})
}

// Whatever fails, with or without effect: when it is over, every lease is held once.
func TestLeasesAreHeldOnceAfterFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, 10)
		r := rand.New(rand.NewPCG(1, 2))
		p.leases.fail = func() (bool, error) {
			switch r.IntN(4) {
			case 0:
				return false, errors.New("did not land")
			case 1:
				return true, errors.New("landed, but nobody was told")
			}
			return true, nil
		}
		for _, owner := range []string{"a", "b", "c"} {
			p.join(owner)
		}
		time.Sleep(time.Minute)
		p.leases.disturb(nil)
		time.Sleep(30 * time.Second)
		p.want("after the failures", "a", "b", "c")
	})
}

func TestPlaceGoesToTheNextOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newParty(t, 1)
		k, leave, _ := p.join("a")
		time.Sleep(time.Second)
		k.Move("00", "half way")
		k.Wake()
		synctest.Wait()
		if place := p.leases.Of("work", "00").Place; place != "half way" {
			t.Errorf("place is %q after a wake, want half way", place)
		}
		k.Move("00", "nearly there")
		leave()
		if l := p.leases.Of("work", "00"); l.Owner != "" || l.Place != "nearly there" {
			t.Errorf("%+v was given back, want no owner and the last place", l)
		}
		p.join("b")
		time.Sleep(time.Second)
		if l := p.leases.Of("work", "00"); l.Owner != "b" || l.Place != "nearly there" {
			t.Errorf("the next owner has %+v, want b, nearly there", l)
		}
	})
}

// What it took then would have to be given back at once, and a simulation of it would not
// repeat.
func TestProcessThatLeavesTakesNothingMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for i := range 20 { // a wake is as good as an end to a select
			p := newParty(t, 1)
			k, leave, _ := p.join(fmt.Sprint(i))
			synctest.Wait()
			p.leases.takes = time.Second // a round is on its way when both come
			k.Wake()
			time.Sleep(1500 * time.Millisecond)
			synctest.Wait()
			p.names = append(p.names, "new")
			k.Wake()
			leave()
			if l := p.leases.Of("work", "new"); l.Counter != 0 {
				t.Fatalf("took %+v though it leaves", l)
			}
		}
	})
}

// A monitor may ask as soon as a process has started, before its roles have.
func TestKeeperThatHasNotBegunIsAlive(t *testing.T) {
	k, err := lease.NewKeeper(lease.Config{Kind: "shard", Owner: "me", Random: strings.NewReader(strings.Repeat("x", 32))})
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Alive(); err != nil {
		t.Error(err)
	}
}
