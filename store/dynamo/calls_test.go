package dynamo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"timberline/events"
	"timberline/projections"
)

// roundTrip is an http.RoundTripper.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answers returns a transport that answers everything with an error of a code.
func answers(status int, code string) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: make(http.Header), Request: r,
			Body: io.NopCloser(strings.NewReader(`{"__type":"com.amazonaws.dynamodb.v20120810#` + code + `","message":"so it is"}`))}, nil
	}
}

// calls are all that a store can be asked to do.
func calls(s *Store) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"append": func(ctx context.Context) error { _, err := s.Append(ctx, "j:1", 1, events.Record("x")); return err },
		"read":   func(ctx context.Context) error { _, err := s.ReadLog(ctx, "j:1", 1, 1, events.Strong); return err },
		"update": func(ctx context.Context) error { return s.UpdateJournal(ctx, events.Row{Number: 1}) },
		"commit": func(ctx context.Context) error { _, err := s.Commit(ctx, 0, 1, []byte("x"), nil); return err },
		"put": func(ctx context.Context) error {
			return s.PutItems(ctx, []projections.Stored{{Timeline: projections.Timeline{User: "ann"}, Last: 1, Data: []byte("x")}})
		},
		"newest": func(ctx context.Context) error {
			_, err := s.NewestItem(ctx, projections.Timeline{User: "ann"}, events.Strong)
			return err
		},
		"leases": func(ctx context.Context) error { _, err := s.ListLeases(ctx, "shard"); return err },
	}
}

func unopened(t *testing.T, change func(*Options)) *Store {
	t.Helper()
	o := options(t)
	change(&o)
	s, err := newStore(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRefusalThatNoRetryMendsIsFatalAndSaysWhatToDo(t *testing.T) {
	for code, want := range map[string]string{
		"ResourceNotFoundException":   "`timberline migrate up --store dynamodb`",
		"AccessDeniedException":       "give these credentials the rights",
		"UnrecognizedClientException": "does not know these credentials",
		"InvalidSignatureException":   "correct the secret key",
		"ValidationException":         "so it is",
	} {
		s := unopened(t, func(o *Options) { o.Transport = answers(400, code) })
		for what, call := range calls(s) {
			if err := call(t.Context()); !errors.Is(err, events.ErrFatal) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s, %s: %v; want ErrFatal with %q", code, what, err, want)
			}
		}
	}
}

func TestWhatMayPassSettlesNothing(t *testing.T) {
	for what, transport := range map[string]http.RoundTripper{
		"throttled":          answers(400, "ThrottlingException"),
		"over throughput":    answers(400, "ProvisionedThroughputExceededException"),
		"internal error":     answers(500, "InternalServerError"),
		"unavailable":        answers(503, "ServiceUnavailable"),
		"expired token":      answers(400, "ExpiredTokenException"),
		"reset":              roundTrip(func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }),
		"answer cut short":   roundTrip(cutShort),
		"not even protocol":  roundTrip(garbage),
		"taken, but by what": answers(400, "ConditionalCheckFailedException"),
	} {
		s := unopened(t, func(o *Options) { o.Transport, o.Backoff, o.Attempts = transport, time.Microsecond, 3 })
		for name, call := range calls(s) {
			if err := call(t.Context()); err == nil || settles(err) {
				t.Errorf("%s, %s: %v; want an error that settles nothing", what, name, err)
			}
		}
	}
}

func cutShort(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Header: make(http.Header), Request: r,
		Body: io.NopCloser(io.MultiReader(strings.NewReader(`{"It`), failing{}))}, nil
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func garbage(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 502, Header: make(http.Header), Request: r,
		Body: io.NopCloser(strings.NewReader("<html>Bad Gateway</html>"))}, nil
}

// silent answers nothing until its request is given up.
func silent(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestAttemptWithoutAnAnswerIsGivenUpAndMadeAgain(t *testing.T) {
	tries := 0
	s := unopened(t, func(o *Options) {
		o.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			tries++
			return silent(r)
		})
		o.AttemptTimeout, o.Attempts, o.Backoff = 10*time.Millisecond, 3, time.Millisecond
	})
	if _, err := s.Append(t.Context(), "j:1", 1, events.Record("x")); err == nil || settles(err) {
		t.Errorf("%v, want an error that settles nothing", err)
	}
	if tries != 3 {
		t.Errorf("%d attempts, want 3", tries)
	}
}

func TestCallEndsAtItsDeadline(t *testing.T) {
	s := unopened(t, func(o *Options) {
		o.Transport = roundTrip(silent)
		o.AttemptTimeout, o.Deadline = time.Hour, 20*time.Millisecond
	})
	for name, call := range calls(s) {
		if err := call(t.Context()); err == nil || settles(err) {
			t.Errorf("%s: %v; want an error that settles nothing", name, err)
		}
	}
}

func TestCallEndsWithItsContext(t *testing.T) {
	s := unopened(t, func(o *Options) { o.Transport = roundTrip(silent) })
	for name, call := range calls(s) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		if err := call(ctx); err == nil || settles(err) {
			t.Errorf("%s: %v; want an error that settles nothing", name, err)
		}
		cancel()
	}
}

func TestStrangePrefixIsRefused(t *testing.T) {
	for _, prefix := range []string{"a b", "ä", strings.Repeat("x", 201)} {
		o := options(t)
		o.Prefix = prefix
		if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "prefix") {
			t.Errorf("%q: %v, want an error that names the option", prefix, err)
		}
	}
}

// Date is cut to the second: what it proves is no more than that.
func TestClockProvesWhatTheDateSays(t *testing.T) {
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, trip := range []time.Duration{0, 40 * time.Millisecond, 3 * time.Second} {
		for off := -3 * time.Second; off <= 3*time.Second; off += 50 * time.Millisecond { // the store's clock minus ours
			for phase := time.Duration(0); phase < time.Second; phase += 90 * time.Millisecond {
				for _, way := range []time.Duration{0, trip / 2, trip} { // when the store wrote its date
					sent := begin.Add(phase)
					c := clock{now: func() time.Time { return sent.Add(trip) }}
					date := sent.Add(way + off).UTC().Format(http.TimeFormat)
					c.observe(sent, http.Header{"Date": {date}})
					s := &Store{clock: clock{skew: c.skew, bound: c.bound, known: c.known}}
					skew, bound, known := s.Clock()
					if !known || off < skew-bound || off > skew+bound {
						t.Fatalf("clocks are %v apart; said is %v ± %v", off, skew, bound)
					}
					if bound != (time.Second+trip)/2 {
						t.Fatalf("bound %v after a round trip of %v", bound, trip)
					}
					if s.ClockIsOff() && off.Abs() <= MaxSkew {
						t.Fatalf("clocks are %v apart, which is said to be too much", off)
					}
					if !s.ClockIsOff() && off.Abs() > MaxSkew+time.Second+trip {
						t.Fatalf("clocks are %v apart after a round trip of %v, and nothing is said", off, trip)
					}
				}
			}
		}
	}
}

func TestAnswersThatProveNoTimeAreNotTaken(t *testing.T) {
	c := clock{now: time.Now}
	for _, h := range []http.Header{{}, {"Date": {"yesterday"}}, {"Date": {"Mon, 02 Jan 2006 15:04:05 GMT"}, "Age": {"7"}}} {
		if c.observe(time.Now(), h); c.known {
			t.Errorf("%v was taken", h)
		}
	}
}

func TestOpenMeasuresTheClock(t *testing.T) {
	p := newPlace(t)
	s := openAs(t, p)
	if skew, bound, known := s.Clock(); !known || skew.Abs() > bound || s.ClockIsOff() {
		t.Errorf("%v ± %v, %v; want 0 to be within: it is the same machine", skew, bound, known)
	}
	for _, off := range []time.Duration{-time.Minute, time.Minute} {
		s := openAs(t, p, func(o *Options) { o.Now = func() time.Time { return time.Now().Add(off) } })
		if skew, bound, known := s.Clock(); !known || (skew+off).Abs() > bound || !s.ClockIsOff() {
			t.Errorf("%v ± %v, %v; want %v, and that the clock is off", skew, bound, known, -off)
		}
	}
}

func TestMetricsCountCallsAndUnits(t *testing.T) {
	r := prometheus.NewRegistry()
	s := openNew(t, func(o *Options) { o.Metrics = r })
	if _, err := s.Append(t.Context(), "j:1", 1, make(events.Record, 3000)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(t.Context(), "j:1", 1, events.Record("x")); !errors.Is(err, events.ErrConflict) {
		t.Fatal(err)
	}
	if _, err := s.ReadLog(t.Context(), "j:1", 1, 10, events.Relaxed); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context(), 0, 1, []byte("c"), []projections.Stored{{Timeline: projections.Timeline{User: "a"}, Last: 1, Data: make([]byte, 1500)}, {Timeline: projections.Timeline{User: "b"}, Last: 1}}); err != nil {
		t.Fatal(err)
	}
	for what, want := range map[string]float64{
		"timberline_store_write_units_total{log}":                6, // the refused one costs what stands there
		"timberline_store_write_units_total{checkpoints}":        1,
		"timberline_store_write_units_total{timelines}":          3,
		"timberline_store_read_units_total{log}":                 0.5,
		"timberline_store_written_bytes_total{log}":              3000 + 7 + 3 + 6 + 2 + 6,
		"timberline_store_errors_total{taken,PutItem}":           1,
		"timberline_store_call_seconds{PutItem}":                 3,
		"timberline_store_call_seconds{BatchWriteItem}":          1,
		"timberline_store_retries_total{PutItem}":                0,
		"timberline_store_errors_total{unanswered,PutItem}":      0,
		"timberline_store_written_bytes_total{no table of ours}": 0,
	} {
		if got := metric(t, r, what); got != want {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
}

func TestMetricsCountRetriesAndCauses(t *testing.T) {
	r := prometheus.NewRegistry()
	for _, test := range []struct{ code, cause string }{
		{"ThrottlingException", "throttled"}, {"ProvisionedThroughputExceededException", "throttled"},
		{"AccessDeniedException", "refused"}, {"InternalServerError", "unanswered"},
	} {
		r = prometheus.NewRegistry()
		s := unopened(t, func(o *Options) {
			o.Transport, o.Attempts, o.Backoff, o.Metrics = answers(400, test.code), 3, time.Microsecond, r
		})
		s.Append(t.Context(), "j:1", 1, events.Record("x"))
		if got := metric(t, r, "timberline_store_errors_total{"+test.cause+",PutItem}"); got != 1 {
			t.Errorf("%s: %v errors of cause %s, want 1", test.code, got, test.cause)
		}
		if got := metric(t, r, "timberline_store_retries_total{PutItem}"); test.cause == "throttled" && got != 2 {
			t.Errorf("%s: %v retries, want 2", test.code, got)
		}
	}
}

// metric returns what name{label values in the order of their names} counts.
func metric(t *testing.T, r *prometheus.Registry, what string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			var values []string
			for _, l := range m.Label {
				values = append(values, l.GetValue())
			}
			if f.GetName()+"{"+strings.Join(values, ",")+"}" != what {
				continue
			}
			if h := m.Histogram; h != nil {
				return float64(h.GetSampleCount())
			}
			return m.Counter.GetValue()
		}
	}
	return 0
}

// A rebuild puts more at a time than one deadline may be enough for.
func TestDeadlineIsOfEachBatch(t *testing.T) {
	s := unopened(t, func(o *Options) {
		o.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			time.Sleep(30 * time.Millisecond)
			return &http.Response{StatusCode: http.StatusOK, Header: make(http.Header), Request: r, Body: io.NopCloser(strings.NewReader(`{"UnprocessedItems":{}}`))}, nil
		})
		o.Deadline = 200 * time.Millisecond
	})
	var items []projections.Stored
	for n := range 10 * parallel * batchItems { // 300 ms
		items = append(items, projections.Stored{Timeline: projections.Timeline{User: events.User(fmt.Sprint("u", n))}, Last: 1, Data: []byte{1}})
	}
	if err := s.PutItems(t.Context(), items); err != nil {
		t.Error(err)
	}
}
