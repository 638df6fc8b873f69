package sim

import (
	"context"
	"crypto/ecdh"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"timberline/edge/auth"
	"timberline/events"
	"timberline/sim/check"
	"timberline/sim/network"
	"timberline/wire/sealed"
)

// A world is everything in one run.
type world struct {
	seed     uint64
	plan     *plan
	seams    *Seams
	begun    time.Time
	draws    *draws
	net      *network.Network
	history  *check.History
	tokenKey ed25519.PrivateKey
	verifier *auth.Verifier
	server   *server
	devices  []*device
	folder   string                         // of this run, for files
	heads    map[events.User]*atomic.Uint64 // where timelines end, as new devices found
	archive  *archive

	serverKey sealed.ServerKey

	mu      sync.Mutex
	outcome *Outcome
	stop    context.CancelCauseFunc
}

func newWorld(seed uint64, p *plan, seams *Seams, folder string) (*world, error) {
	w := &world{
		seed: seed, folder: folder, plan: p, seams: seams, begun: time.Now(),
		draws: newDraws(seed), net: network.New(seed, p.network), history: check.NewHistory(),
		outcome: &Outcome{Seed: seed},
	}
	if err := w.drawKeys(); err != nil {
		return nil, err
	}
	w.server = newServer(w)
	w.history.Clock(w.server.highest)
	w.archive = newArchive(w)
	w.heads = make(map[events.User]*atomic.Uint64)
	for _, u := range users {
		w.heads[u] = new(atomic.Uint64)
	}
	for i := range p.devices {
		w.devices = append(w.devices, newDevice(w, &p.devices[i], i))
	}
	return w, nil
}

// drawKeys draws what the server keeps secret, over all its processes.
func (w *world) drawKeys() error {
	var token, static [32]byte
	random := network.Random(w.seed, "keys")
	for _, b := range [][]byte{token[:], static[:]} {
		if _, err := io.ReadFull(random, b); err != nil {
			return err
		}
	}
	w.tokenKey = ed25519.NewKeyFromSeed(token[:])
	w.verifier = auth.NewVerifier(w.tokenKey.Public().(ed25519.PublicKey))
	private, err := ecdh.X25519().NewPrivateKey(static[:])
	if err != nil {
		return err
	}
	w.serverKey = sealed.NewServerKey(private)
	return nil
}

// time is how long the run has lasted.
func (w *world) time() time.Duration { return time.Since(w.begun) }

// count counts something in the outcome.
func (w *world) count(n *int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*n++
}

// tell takes in what a process that is over tells of itself.
func (w *world) tell(p *process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.outcome.Overtaken += p.tells.value("timberline_projections_overtaken_total")
	for _, name := range []string{"sends_busy_total", "syncs_busy_total", "logins_denied_total"} {
		w.outcome.Busy += p.tells.value("timberline_edge_" + name)
	}
	w.outcome.Conflicts += p.tells.value("timberline_ingest_appends_conflict_total")
}

// note adds a line to the trace and to the story.
func (w *world) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.net.Note(text)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.outcome.Story = append(w.outcome.Story, fmt.Sprintf("%-14v %s", w.time(), text))
}

// crashed counts a crash that took so many bytes.
func (w *world) crashed(lost int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.outcome.Crashes++
	w.outcome.Lost += lost
}

// fail notes that something went wrong that is no broken promise, and ends the
// run.
func (w *world) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.outcome.Errs = append(w.outcome.Errs, err)
	w.stop(err)
}

// patience is how long the world may take to come to rest after the chat.
const patience = 30 * time.Minute

// run lets everything happen and holds it against the promises.
func (w *world) run() *Outcome {
	carrying, hush := context.WithCancel(context.Background())
	ctx, stop := context.WithCancelCause(context.Background())
	w.stop = stop
	w.flood()
	(&eavesdropper{w: w}).begin()
	var network, server sync.WaitGroup
	network.Go(func() { w.net.Run(carrying) })
	server.Go(func() {
		if err := w.server.run(ctx); err != nil {
			w.fail(err)
		}
	})
	w.play(ctx)
	stop(nil)
	server.Wait()
	hush()
	network.Wait()
	w.outcome.Time = w.time()
	w.outcome.Report = w.history.Check()
	w.outcome.Trace = w.net.Trace()
	return w.outcome
}

// play lets the devices chat, and waits until everybody has everything.
func (w *world) play(ctx context.Context) {
	ctx, cancel := context.WithTimeoutCause(ctx, chatFor+patience, errPatience)
	defer cancel()
	defer func() {
		for _, d := range w.devices {
			d.close()
		}
	}()
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		w.operate(ctx)
	}()
	if err := w.each(ctx, (*device).chat); err != nil {
		w.fail(err)
		return
	}
	select {
	case <-w.server.last:
	case <-ctx.Done():
	}
	sleep(ctx, time.Millisecond) // let the server start first
	w.note("the chat is over")
	<-kept
	phases := []func(*device, context.Context) error{(*device).flush, (*device).rest, (*device).again, (*device).catchUp}
	for _, phase := range phases {
		if err := w.each(ctx, phase); err != nil {
			w.fail(err)
			return
		}
	}
	w.note("everybody has everything")
}

var errPatience = errors.New("still waiting after half an hour")

// each does something with every device, all at a time.
func (w *world) each(ctx context.Context, do func(*device, context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, d := range w.devices {
		g.Go(func() error {
			err := sleep(ctx, between(w.draws.next(d.String()+" begins"), 0, time.Second))
			if err == nil {
				err = do(d, ctx)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", d, err)
			}
			return nil
		})
	}
	return g.Wait()
}
