package faults

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// A server remembers what has reached it.
type server struct {
	mu  sync.Mutex
	got []string // bodies
}

func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if r.ContentLength != int64(len(body)) {
		return nil, fmt.Errorf("%d bytes, announced as %d", len(body), r.ContentLength)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, string(body))
	return &http.Response{StatusCode: 200, Header: make(http.Header), Body: io.NopCloser(strings.NewReader(`{"done":true}`)), Request: r}, nil
}

func (s *server) reached() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

// do makes a request through a transport that has one fault.
func do(t *testing.T, net *Transport, operation, body string) (status int, answer string, err error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", "http://store/", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Amz-Target", "DynamoDB_20120810."+operation)
	got, err := net.RoundTrip(r)
	if err != nil {
		return 0, "", err
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	return got.StatusCode, string(text), nil
}

func with(f Fault, delay time.Duration) (*Transport, *server) {
	s := new(server)
	return &Transport{Next: s, Choose: func(Call) Fault { return f }, Delay: delay}, s
}

const aPut = `{"TableName":"t","Item":{}}`

func wantTimeout(t *testing.T, err error) {
	t.Helper()
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("%v, want a time-out", err)
	}
}

func TestRequestPassesWithoutAFault(t *testing.T) {
	net, s := with(None, 0)
	status, answer, err := do(t, net, "PutItem", aPut)
	if status != 200 || answer != `{"done":true}` || err != nil || s.reached() != 1 || s.got[0] != aPut {
		t.Errorf("%d %s, %v; the server got %q", status, answer, err, s.got)
	}
}

func TestRefusedRequestsDoNothing(t *testing.T) {
	for f, want := range map[Fault]struct {
		status int
		code   string
	}{Throttled: {400, "ThrottlingException"}, Failed: {500, "InternalServerError"}} {
		net, s := with(f, 0)
		status, answer, err := do(t, net, "PutItem", aPut)
		if status != want.status || !strings.Contains(answer, want.code) || err != nil || s.reached() != 0 {
			t.Errorf("%v: %d %s, %v; %d reached the server", f, status, answer, err, s.reached())
		}
	}
}

func TestRequestsWithoutAnAnswer(t *testing.T) {
	for f, reached := range map[Fault]int{Dropped: 0, Lost: 1, Late: 0} {
		net, s := with(f, 0)
		_, _, err := do(t, net, "PutItem", aPut)
		wantTimeout(t, err)
		if s.reached() != reached {
			t.Errorf("%v: %d reached the server, want %d", f, s.reached(), reached)
		}
	}
}

func TestLateRequestArrivesWhenItIsLetTo(t *testing.T) {
	net, s := with(Late, 0)
	_, _, err := do(t, net, "PutItem", aPut)
	wantTimeout(t, err)
	if s.reached() != 0 {
		t.Error("it was there at once")
	}
	for range 2 {
		if net.Land(); s.reached() != 1 || s.got[0] != aPut {
			t.Errorf("the server got %q, want the request once", s.got)
		}
	}
}

func TestLateRequestArrivesAfterItsDelay(t *testing.T) {
	net, s := with(Late, time.Millisecond)
	_, _, err := do(t, net, "PutItem", aPut)
	wantTimeout(t, err)
	if net.Land(); s.reached() != 1 {
		t.Errorf("the server got %q, want the request", s.got)
	}
}

func TestSlowRequestWaits(t *testing.T) {
	net, s := with(Slow, 20*time.Millisecond)
	began := time.Now()
	if status, _, err := do(t, net, "PutItem", aPut); status != 200 || err != nil || s.reached() != 1 {
		t.Errorf("%d, %v", status, err)
	}
	if took := time.Since(began); took < 20*time.Millisecond {
		t.Errorf("it took %v", took)
	}
}

func TestPartOfABatchComesBack(t *testing.T) {
	net, s := with(Unprocessed, 0)
	_, answer, err := do(t, net, "BatchWriteItem", `{"RequestItems":{"t":[{"n":1},{"n":2},{"n":3}]},"X":"kept"}`)
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ UnprocessedItems map[string][]struct{ N int } }
	if err := json.Unmarshal([]byte(answer), &got); err != nil {
		t.Fatal(err)
	}
	if left := got.UnprocessedItems["t"]; len(left) != 2 || left[0].N != 1 || left[1].N != 3 {
		t.Errorf("%s came back", answer)
	}
	if s.reached() != 1 || s.got[0] != `{"RequestItems":{"t":[{"n":2}]},"X":"kept"}` {
		t.Errorf("the server got %q", s.got)
	}
	if _, answer, err := do(t, net, "BatchWriteItem", `{"RequestItems":{"t":[{"n":1}]}}`); err != nil || s.reached() != 1 || !strings.Contains(answer, `[{"n":1}]`) {
		t.Errorf("of one item %s came back, %v; %d reached the server", answer, err, s.reached())
	}
}

func TestPageIsShort(t *testing.T) {
	net, s := with(Short, 0)
	if _, _, err := do(t, net, "Query", `{"Limit":100,"TableName":"t"}`); err != nil || s.got[0] != `{"Limit":1,"TableName":"t"}` {
		t.Errorf("the server got %q, %v", s.got, err)
	}
}

func TestFaultThatDoesNotSuitARequestLeavesIt(t *testing.T) {
	for operation, all := range map[string][]Fault{"Query": {Lost, Late, Unprocessed}, "PutItem": {Short, Unprocessed}, "BatchWriteItem": {Short}} {
		for _, f := range all {
			net, s := with(f, 0)
			if status, _, err := do(t, net, operation, "{}"); status != 200 || err != nil || s.reached() != 1 {
				t.Errorf("%s, %v: %d, %v", operation, f, status, err)
			}
			if met := net.Met(); met[f] != 0 || met[None] != 1 {
				t.Errorf("%s: it is counted as %v", operation, met)
			}
		}
	}
}

func TestChoiceGoesBySeedAndCallButNotByOrder(t *testing.T) {
	odds := Odds{Throttled: 0.3, Lost: 0.3}
	var calls []Call
	for n := range 200 {
		calls = append(calls, Call{"PutItem", fmt.Appendf(nil, `{"a":%d,"b":2}`, n/2)}) // each twice
	}
	one, two, other := Seeded(1, odds), Seeded(1, odds), Seeded(2, odds)
	var first, same, differs []Fault
	for _, c := range calls {
		first = append(first, one(c))
		differs = append(differs, other(c))
	}
	for n := len(calls) - 2; n >= 0; n -= 2 {
		swapped := Call{"PutItem", []byte(strings.Replace(string(calls[n].Body), `"b":2`, ``, 1))}
		swapped.Body = []byte(strings.Replace(strings.Replace(string(swapped.Body), "{", `{"b":2,`, 1), ",}", "}", 1))
		same = append([]Fault{two(swapped), two(swapped)}, same...)
	}
	if fmt.Sprint(first) != fmt.Sprint(same) {
		t.Errorf("in another order, said in another way:\n%v\n%v", first, same)
	}
	if fmt.Sprint(first) == fmt.Sprint(differs) {
		t.Error("two seeds choose the same")
	}
	count := make(map[Fault]int)
	for _, f := range first {
		count[f]++
	}
	if count[Throttled] < 30 || count[Lost] < 30 || count[None] < 40 || len(count) != 3 {
		t.Errorf("of 200 calls: %v; the odds were %v", count, odds)
	}
}
