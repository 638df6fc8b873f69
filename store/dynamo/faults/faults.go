// Package faults gives DynamoDB bad days, for tests: an http.RoundTripper between the
// SDK and the service that refuses requests, loses answers, delivers requests when their
// caller has gone on, and answers with less than was asked for, as the service may and
// its emulator never does.
//
// It changes some requests, which breaks their signatures: it works in front of DynamoDB
// Local, which checks none.
package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"
)

// A Fault is what happens to one request.
type Fault uint8

// The faults. Those that do not suit a request leave it as it is.
const (
	None        Fault = iota
	Throttled         // it is refused: too many
	Failed            // it does nothing, and is answered with an internal error
	Dropped           // it does nothing, and gets no answer
	Lost              // it does what it should, and gets no answer
	Late              // it gets no answer, and does what it should when its caller has gone on
	Slow              // it takes its time
	Unprocessed       // of a BatchWriteItem only a part is done, the rest comes back
	Short             // a Query gets a page of one item
	kinds
)

func (f Fault) String() string {
	return [kinds]string{"none", "throttled", "failed", "dropped", "lost", "late", "slow", "unprocessed", "short"}[f]
}

// A Call is what a fault is chosen for.
type Call struct {
	Operation string // "PutItem", …
	Body      []byte // JSON
}

// A Transport is an http.RoundTripper that requests of DynamoDB pass through.
type Transport struct {
	Next http.RoundTripper
	// Choose returns what happens to a call. It is called from many goroutines.
	Choose func(Call) Fault
	// Delay is how long slow requests wait, and after which late ones arrive; zero: they
	// arrive when Land is called, one after the other.
	Delay time.Duration

	mu     sync.Mutex
	met    [kinds]int
	late   []func()
	flying sync.WaitGroup // requests that arrive after Delay
}

// Met returns how often each fault has happened.
func (t *Transport) Met() map[Fault]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make(map[Fault]int)
	for f, n := range t.met {
		if n > 0 {
			all[Fault(f)] = n
		}
	}
	return all
}

// Land returns when all late requests have arrived that there are.
func (t *Transport) Land() {
	t.mu.Lock()
	late := t.late
	t.late = nil
	t.mu.Unlock()
	for _, arrive := range late {
		arrive()
	}
	t.flying.Wait()
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	body, err := io.ReadAll(r.Body)
	r.Body.Close()
	if err != nil {
		return nil, err
	}
	call := Call{operation, body}
	fault := t.Choose(call)
	if !fault.suits(call) {
		fault = None
	}
	t.mu.Lock()
	t.met[fault]++
	t.mu.Unlock()
	return t.suffer(fault, r, call)
}

// suits reports whether a fault can happen to a call.
func (f Fault) suits(c Call) bool {
	switch f {
	case Unprocessed:
		return c.Operation == "BatchWriteItem"
	case Short:
		return c.Operation == "Query"
	case Lost, Late:
		return writes.MatchString(c.Operation)
	}
	return true
}

var writes = regexp.MustCompile("Put|Write|Update|Create|Delete")

func (t *Transport) suffer(fault Fault, r *http.Request, call Call) (*http.Response, error) {
	switch fault {
	case Throttled:
		return refusal(r, http.StatusBadRequest, "com.amazonaws.dynamodb.v20120810#ThrottlingException"), nil
	case Failed:
		return refusal(r, http.StatusInternalServerError, "com.amazonaws.dynamodb.v20120810#InternalServerError"), nil
	case Dropped:
		return nil, noAnswer{}
	case Lost:
		answer, err := t.send(r, call.Body)
		if err == nil {
			discard(answer)
		}
		return nil, noAnswer{}
	case Late:
		t.holdBack(r, call.Body)
		return nil, noAnswer{}
	case Slow:
		select {
		case <-time.After(t.Delay):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	case Unprocessed:
		return t.processPart(r, call.Body)
	case Short:
		return t.shortPage(r, call.Body)
	}
	return t.send(r, call.Body)
}

// noAnswer is the error of a request that has run out of time.
type noAnswer struct{}

func (noAnswer) Error() string   { return "no answer in time" }
func (noAnswer) Timeout() bool   { return true }
func (noAnswer) Temporary() bool { return true }

// send passes a request on with a body.
func (t *Transport) send(r *http.Request, body []byte) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.GetBody = nil
	r.ContentLength = int64(len(body))
	r.Header.Set("Content-Length", fmt.Sprint(len(body)))
	return t.Next.RoundTrip(r)
}

// lateTime bounds a late request, whose caller does so no more.
const lateTime = 10 * time.Second

// holdBack lets a request arrive later.
func (t *Transport) holdBack(r *http.Request, body []byte) {
	arrive := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), lateTime)
		defer cancel()
		if answer, err := t.send(r.Clone(ctx), body); err == nil {
			discard(answer)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.Delay == 0 {
		t.late = append(t.late, arrive)
		return
	}
	t.flying.Go(func() {
		time.Sleep(t.Delay)
		arrive()
	})
}

func discard(r *http.Response) {
	io.Copy(io.Discard, r.Body)
	r.Body.Close()
}

func refusal(r *http.Request, status int, code string) *http.Response {
	body, _ := json.Marshal(map[string]string{"__type": code, "message": "it was chosen to be"})
	return response(r, status, body)
}

func response(r *http.Request, status int, body []byte) *http.Response {
	return &http.Response{
		Status: http.StatusText(status), StatusCode: status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"application/x-amz-json-1.0"}, "Date": {time.Now().UTC().Format(http.TimeFormat)}},
		Body:          io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)),
		Request:       r,
	}
}

// A batch is a BatchWriteItem's request, and what of it was not processed.
type batch = map[string][]json.RawMessage

// processPart passes on every other write of a batch, and answers with the rest. A batch
// of one is passed over whole.
func (t *Transport) processPart(r *http.Request, body []byte) (*http.Response, error) {
	var request map[string]json.RawMessage
	var items batch
	if err := json.Unmarshal(body, &request); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(request["RequestItems"], &items); err != nil {
		return nil, err
	}
	done, left := make(batch), make(batch)
	for table, writes := range items {
		for i, w := range writes {
			if i%2 == 1 {
				done[table] = append(done[table], w)
			} else {
				left[table] = append(left[table], w)
			}
		}
	}
	if len(done) > 0 {
		request["RequestItems"] = marshal(done)
		answer, err := t.send(r, marshal(request))
		if err != nil || answer.StatusCode != http.StatusOK {
			return answer, err
		}
		discard(answer)
	}
	return response(r, http.StatusOK, marshal(map[string]any{"UnprocessedItems": left})), nil
}

// shortPage asks for one item instead of a page.
func (t *Transport) shortPage(r *http.Request, body []byte) (*http.Response, error) {
	var request map[string]json.RawMessage
	if err := json.Unmarshal(body, &request); err != nil {
		return nil, err
	}
	request["Limit"] = json.RawMessage("1")
	return t.send(r, marshal(request))
}

// marshal encodes what was decoded.
func marshal(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// Odds say how often a fault happens, from 0 to 1. Together they are at most 1.
type Odds map[Fault]float64

// Seeded returns a choice by odds. It goes by the seed, the call, and how often the same
// one was made before, and so not by the order in which calls come.
func Seeded(seed uint64, odds Odds) func(Call) Fault {
	var mu sync.Mutex
	before := make(map[uint64]uint64) // calls, by their hashes
	return func(c Call) Fault {
		h := c.hash()
		mu.Lock()
		n := before[h]
		before[h]++
		mu.Unlock()
		drawn := rand.New(rand.NewPCG(seed, h+n*0x9e3779b97f4a7c15)).Float64()
		for f := range kinds {
			if drawn -= odds[f]; drawn < 0 {
				return f
			}
		}
		return None
	}
}

// hash returns a number for what the call says. The SDK writes the same in another order
// each time.
func (c Call) hash() uint64 {
	h := fnv.New64a()
	io.WriteString(h, c.Operation)
	var said any
	if json.Unmarshal(c.Body, &said) == nil {
		h.Write(marshal(said)) // in the order of its names
	}
	return h.Sum64()
}
