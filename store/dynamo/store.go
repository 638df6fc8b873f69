package dynamo

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"regexp"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/prometheus/client_golang/prometheus"

	"timberline/migrations"
)

// Options say which store is opened, and how it is called. Zero fields have the defaults
// named.
type Options struct {
	// AWS holds region, credentials and, for another DynamoDB than that of the region,
	// BaseEndpoint. Its HTTPClient and Retryer are not used.
	AWS aws.Config
	// Prefix begins the name of every table, "-" follows; default: timberline.
	Prefix string
	// Transport makes the requests; default: net/http's, with proxies from the
	// environment and up to 256 idle connections. One of your own should keep as many
	// idle connections to a host as there are callers: the SDK's 10 are too few.
	Transport http.RoundTripper
	// AttemptTimeout bounds one request and its answer; default: 3 s.
	AttemptTimeout time.Duration
	// Attempts bounds the requests of one call; default: 8.
	Attempts int
	// Deadline bounds a call with all its attempts, also one that is made of several
	// (a page after the other, the batches of a commit); default: 15 s.
	Deadline time.Duration
	// Backoff is the least upper bound of the random wait before a call is tried again;
	// it doubles with every attempt, up to 20 times as much. Default: 50 ms.
	Backoff time.Duration
	// Now is the wall clock; default: time.Now.
	Now    func() time.Time
	Logger *slog.Logger // default: nobody is told
	// Metrics are told what the engine does; default: nobody is told.
	Metrics prometheus.Registerer
}

// idleConnections is how many connections to the store may stay open unused. The SDK
// keeps 10: with more callers than that most calls would begin with a handshake.
const idleConnections = 256

// defaults checks the options and fills in what is not set.
func (o *Options) defaults() error {
	if o.Prefix == "" {
		o.Prefix = "timberline"
	}
	if !prefixes.MatchString(o.Prefix) {
		return fmt.Errorf("prefix %q: want 1 to 200 of A-Z a-z 0-9 _ . -", o.Prefix)
	}
	if o.Transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConns, t.MaxIdleConnsPerHost = idleConnections, idleConnections
		o.Transport = t
	}
	o.AttemptTimeout = positive(o.AttemptTimeout, 3*time.Second)
	o.Deadline = positive(o.Deadline, 15*time.Second)
	o.Backoff = positive(o.Backoff, 50*time.Millisecond)
	if o.Attempts <= 0 {
		o.Attempts = 8
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

var prefixes = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,200}$`)

func positive(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return d
}

// Store is a storage engine: events.Log, events.Journals, projections.Checkpoints,
// projections.Items and lease.Leases; and, with projections.Upkeep, what is to be done with
// one that nothing else works on.
type Store struct {
	db      *dynamodb.Client
	http    *http.Client
	retryer aws.Retryer
	o       Options
	log     *slog.Logger
	clock   clock
	metrics metrics
	meta    meta
}

// newStore returns a store that has looked at nothing yet.
func newStore(o Options) (*Store, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	s := &Store{o: o, log: o.Logger, clock: clock{now: o.Now}, metrics: newMetrics(o.Metrics)}
	s.http = &http.Client{
		Transport:     &observer{o.Transport, s},
		Timeout:       o.AttemptTimeout, // of an attempt: the SDK makes them one by one
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	s.retryer = retry.NewStandard(func(so *retry.StandardOptions) {
		so.MaxAttempts = o.Attempts
		so.Backoff = retry.BackoffDelayerFunc(func(attempt int, _ error) (time.Duration, error) { return s.backoff(attempt), nil })
		so.RateLimiter = ratelimit.None // attempts and callers are bounded
	})
	s.db = dynamodb.NewFromConfig(o.AWS, func(do *dynamodb.Options) { do.HTTPClient, do.Retryer = s.http, s.retryer })
	return s, nil
}

// Open opens the store of a prefix. It refuses one that is not there as a whole, that has
// other migration steps than this program (migrations.ErrPending, events.ErrFormat), or that
// comes from a backup and is not whole again (migrations.ErrRestoring).
func Open(ctx context.Context, o Options) (*Store, error) {
	s, err := newStore(o)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := s.open(ctx); err != nil {
		s.Close()
		return nil, fmt.Errorf("open store %s: %w", s.o.Prefix, err)
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	if err := s.load(ctx); err != nil {
		return err
	}
	if s.meta.phase != migrations.Whole {
		return migrations.ErrRestoring
	}
	return nil
}

// load reads what the store is, and refuses what this program does not work with.
func (s *Store) load(ctx context.Context) (err error) {
	if s.meta, err = s.readMeta(ctx); err != nil {
		return err
	}
	return migrations.Check(ctx, &Migrations{s, s.meta.shards})
}

// Close lets go of the connections. Calls that are under way go on.
func (s *Store) Close() error {
	s.http.CloseIdleConnections()
	return nil
}

func (s *Store) name(t *table) string { return s.o.Prefix + "-" + t.suffix }

// observer sees every request and its answer.
type observer struct {
	next  http.RoundTripper
	store *Store
}

// RoundTrip implements http.RoundTripper.
func (o *observer) RoundTrip(r *http.Request) (*http.Response, error) {
	sent := o.store.clock.now()
	answer, err := o.next.RoundTrip(r)
	if err == nil {
		o.store.clock.observe(sent, answer.Header)
	}
	o.store.metrics.attempt(r)
	return answer, err
}

// CloseIdleConnections passes on what http.Client asks for.
func (o *observer) CloseIdleConnections() {
	if next, ok := o.next.(interface{ CloseIdleConnections() }); ok {
		next.CloseIdleConnections()
	}
}

// backoff returns the wait before the next attempt, after a number of them has failed.
func (s *Store) backoff(attempt int) time.Duration {
	bound := s.o.Backoff << min(attempt-1, 10)
	return rand.N(min(bound, 20*s.o.Backoff))
}

// sleep waits for backoff.
func (s *Store) sleep(ctx context.Context, attempt int) error {
	t := time.NewTimer(s.backoff(attempt))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// call makes a call of the SDK, which tries it several times, and tells what became of
// it.
func call[I, O, P any](ctx context.Context, s *Store, operation string, do func(context.Context, *I, ...func(P)) (*O, error), in *I) (*O, error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Deadline)
	defer cancel()
	began := time.Now()
	out, err := do(ctx, in)
	s.metrics.call(operation, time.Since(began), err)
	return out, s.explain(err)
}
