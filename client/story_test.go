package client

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"timberline/events"
	"timberline/wire"
)

// A wireEnd is a socket whose other end is the test.
type wireEnd struct {
	in   chan wire.Datagram
	gone chan struct{}
	once sync.Once
	open func(data []byte) (wire.Packet, error)

	mu   sync.Mutex
	sent []wire.Packet
	to   netip.AddrPort // where the last went
}

// last returns where the last packet went.
func (w *wireEnd) last() netip.AddrPort {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to
}

func newWireEnd() *wireEnd {
	return &wireEnd{in: make(chan wire.Datagram, 64), gone: make(chan struct{}), open: wire.Decode}
}

func (w *wireEnd) ReadBatch(ds []wire.Datagram) (n int, err error) {
	var d wire.Datagram
	select {
	case d = <-w.in:
	case <-w.gone:
		return 0, net.ErrClosed
	}
	w.mu.Lock() // the test may be putting in several
	defer w.mu.Unlock()
	for {
		ds[n].Addr = d.Addr
		ds[n].Data = ds[n].Data[:copy(ds[n].Data, d.Data)]
		if n++; n == len(ds) {
			return n, nil
		}
		select {
		case d = <-w.in:
		default:
			return n, nil
		}
	}
}

func (w *wireEnd) WriteBatch(ds []wire.Datagram) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range ds {
		p, err := w.open(bytes.Clone(d.Data))
		if err != nil {
			panic(err)
		}
		w.sent, w.to = append(w.sent, p), d.Addr
	}
	return nil
}

// take returns the frames sent since it was called last.
func (w *wireEnd) take() (fs []wire.Frame) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.sent {
		fs = append(fs, p.Frames...)
	}
	w.sent = nil
	return fs
}

func (w *wireEnd) LocalAddr() netip.AddrPort { return netip.MustParseAddrPort("10.0.0.2:1") }

func (w *wireEnd) Close() error {
	w.once.Do(func() { close(w.gone) })
	return nil
}

var (
	serverAddr = netip.MustParseAddrPort("10.0.0.1:4747")
	store1     = events.StoreID{1}
	store2     = events.StoreID{2}
)

// A story is a client, and a server that the test plays.
type story struct {
	t       *testing.T
	c       *Client
	store   Store
	lives   byte       // clients so far
	ends    []*wireEnd // the sockets the client has opened
	vault   *vault     // sealed: the server's end; nil: plain mode
	session events.SessionID
	heartMS uint32
	frames  []wire.Frame // sent by the client, not taken by the test

	mu        sync.Mutex
	got       []string // bodies of messages, resets and trims, as the app was told
	seqs      []events.Seq
	results   []Result
	states    []State
	refuse    error         // of OnMessage
	refused   int           // how often
	slow      time.Duration // how long OnMessage takes
	block     chan struct{} // OnMessage waits for it to be closed
	stuck     chan struct{} // OnResult does
	tokens    int
	longToken string
	noToken   error // of Token
}

// tell plays a story in a bubble of its own. The client is closed at the end,
// and whatever goroutine it leaves fails the test.
func tell(t *testing.T, o Options, play func(s *story)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newStory(t, o)
		defer func() { s.c.Close() }()
		play(s)
	})
}

// tellPulled is tell for an app that has no OnMessage.
func tellPulled(t *testing.T, o Options, play func(s *story)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &story{t: t, heartMS: 15000}
		o.Store = NewMemory()
		s.hooks(&o)
		o.OnMessage = nil
		s.dial(o)
		defer func() { s.c.Close() }()
		play(s)
	})
}

func newStory(t *testing.T, o Options) *story {
	t.Helper()
	s := &story{t: t, heartMS: 15000}
	if o.Store == nil {
		o.Store = NewMemory()
	}
	s.hooks(&o)
	s.dial(o)
	return s
}

// hooks fills in the options that the story has not.
func (s *story) hooks(o *Options) {
	if o.Token == nil {
		o.Token = s.token
	}
	if o.Listen == nil {
		o.Listen = s.listen
	}
	if o.Random == nil {
		o.Random = bytes.NewReader(bytes.Repeat([]byte{s.lives}, 32))
	}
	o.OnResult = s.onResult
	o.OnMessage = s.onMessage
	o.OnState = func(x State) { s.note(func() { s.states = append(s.states, x) }) }
	o.OnReset = func(events.StoreID) { s.note(func() { s.got = append(s.got, "reset") }) }
	o.OnTrimmed = func(a, b events.Seq) {
		s.note(func() { s.got = append(s.got, fmt.Sprintf("trimmed %d-%d", a, b)) })
	}
}

func (s *story) dial(o Options) {
	s.t.Helper()
	o.Plain = s.vault == nil
	c, err := Dial(serverAddr.String(), o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.c, s.store = c, o.Store
	s.lives++
	synctest.Wait()
}

// again plays the next process of the same device: with the store as given, or
// as the client before left it.
func (s *story) again(o Options) {
	s.t.Helper()
	s.c.Close()
	s.hear()
	s.frames = nil
	if o.Store == nil {
		o.Store = s.store
	}
	s.hooks(&o)
	s.dial(o)
}

// saved returns what the store keeps now.
func (s *story) saved() Saved {
	s.t.Helper()
	synctest.Wait()
	saved, err := s.store.Load()
	if err != nil {
		s.t.Fatal(err)
	}
	return saved
}

func (s *story) token(context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens++
	if s.longToken != "" {
		return s.longToken, nil
	}
	return fmt.Sprintf("token %d", s.tokens), s.noToken
}

func (s *story) listen() (wire.PacketConn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	end := newWireEnd()
	if s.vault != nil {
		end.open = s.vault.open
	}
	s.ends = append(s.ends, end)
	return end, nil
}

func (s *story) note(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *story) onResult(r Result) {
	var stuck chan struct{}
	s.note(func() { stuck = s.stuck })
	if stuck != nil {
		<-stuck
	}
	s.note(func() { s.results = append(s.results, r) })
}

func (s *story) onMessage(m Message) error {
	if b := s.block; b != nil {
		<-b
	}
	time.Sleep(s.slow)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		s.refused++
		return s.refuse
	}
	s.got = append(s.got, string(m.Event.Body))
	s.seqs = append(s.seqs, m.Seq)
	return nil
}

// end returns the socket in use.
func (s *story) end() *wireEnd {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ends) == 0 {
		s.t.Fatal("the client has no socket")
	}
	return s.ends[len(s.ends)-1]
}

// hear takes in what the client has sent.
func (s *story) hear() {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.ends {
		s.frames = append(s.frames, e.take()...)
	}
}

// took returns the frames of one type since the test asked for them last.
func took[F any](s *story) (fs []*F) {
	s.t.Helper()
	s.hear()
	s.frames = slices.DeleteFunc(s.frames, func(f wire.Frame) bool {
		x, ok := f.(any).(*F)
		if ok {
			fs = append(fs, x)
		}
		return ok
	})
	return fs
}

// one returns the only frame of its type since the client was asked last.
func one[F any](s *story) *F {
	s.t.Helper()
	fs := took[F](s)
	if len(fs) != 1 {
		s.t.Fatalf("%d frames %T came, want 1", len(fs), *new(F))
	}
	return fs[0]
}

// say sends frames of the session to the client.
func (s *story) say(fs ...wire.Frame) {
	s.sayAs(serverAddr, s.session, fs...)
}

func (s *story) sayAs(from netip.AddrPort, session events.SessionID, fs ...wire.Frame) {
	p := wire.Packet{Session: session, Frames: fs}
	data := p.Encode()
	if s.vault != nil {
		data = s.vault.seal(s.t, fs)
	}
	if len(data) > wire.MaxPacket {
		s.t.Fatalf("the story has a packet of %d bytes", len(data))
	}
	s.put(from, data)
}

// put hands a datagram to the client.
func (s *story) put(from netip.AddrPort, data []byte) {
	s.end().in <- wire.Datagram{Addr: from, Data: data}
	synctest.Wait()
}

// advance lets time pass.
func (s *story) advance(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// live lets time pass while heartbeats are answered. It returns how many came.
func (s *story) live(d time.Duration, head events.Seq) (pings int) {
	for ; d > 0; d -= time.Second {
		s.advance(min(d, time.Second))
		for _, f := range took[wire.Ping](s) {
			pings++
			s.say(&wire.Pong{ID: f.ID, Head: head, First: 1})
		}
	}
	return pings
}

// welcome answers the LOGIN that must have come, and returns it.
func (s *story) welcome(session byte, head events.Seq) *wire.Login {
	s.t.Helper()
	f := s.login()
	s.accept(f, session, wire.Accepted{Head: head, First: 1, Store: store1})
	return f
}

// login returns the LOGIN that must have come.
func (s *story) login() *wire.Login {
	s.t.Helper()
	fs := took[wire.Login](s)
	if len(fs) == 0 {
		s.t.Fatal("no LOGIN came")
	}
	return fs[len(fs)-1]
}

func (s *story) accept(f *wire.Login, session byte, a wire.Accepted) {
	s.session = events.SessionID{session}
	a.Attempt, a.Session, a.Heartbeat, a.MaxBody = f.Attempt, s.session, s.heartMS, 16<<10
	a.Journal, a.Offset = "j:1", 10
	s.say(&a)
}

// send sends texts to bob through the client.
func (s *story) send(texts ...string) (ids []events.MessageID) {
	s.t.Helper()
	for _, text := range texts {
		id, err := s.c.Send(s.t.Context(), "bob", []byte(text))
		if err != nil {
			s.t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// wantSends checks which sends came since the client was asked last.
func (s *story) wantSends(why string, want ...string) {
	s.t.Helper()
	got := []string{}
	for _, f := range took[wire.Send](s) {
		got = append(got, string(f.Body))
	}
	if d := cmp.Diff(append([]string{}, want...), got); d != "" {
		s.t.Errorf("%s: sends (-want +got):\n%s", why, d)
	}
}

// wantApp checks what the app was told in all.
func (s *story) wantApp(why string, want ...string) {
	s.t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := cmp.Diff(want, s.got); d != "" {
		s.t.Errorf("%s: the app was told (-want +got):\n%s", why, d)
	}
}

// wantResults checks the results in all, each by its error's words.
func (s *story) wantResults(why string, want ...string) {
	s.t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	got := []string{}
	for _, r := range s.results {
		text := "stored"
		if r.Err != nil {
			text = r.Err.Error()
		}
		got = append(got, text)
	}
	if d := cmp.Diff(append([]string{}, want...), got); d != "" {
		s.t.Errorf("%s: results (-want +got):\n%s", why, d)
	}
}

// wantStates checks the states in all.
func (s *story) wantStates(why string, want ...State) {
	s.t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := cmp.Diff(want, s.states); d != "" {
		s.t.Errorf("%s: states (-want +got):\n%s", why, d)
	}
}

// entry returns an encoded event of somebody else.
func entry(text string) []byte {
	e := events.Event{ID: events.ID{1}, Kind: events.KindMessage, Sender: "bob", Body: []byte(text)}
	return e.Encode()
}

// entries returns encoded events.
func entries(texts ...string) (raws [][]byte) {
	for _, text := range texts {
		raws = append(raws, entry(text))
	}
	return raws
}

// bits returns a bitmap of what is held, of up to eight numbers.
func bits(held ...int) []byte {
	var b byte
	for _, i := range held {
		b |= 1 << i
	}
	return []byte{b}
}

// in returns a context of the story's that ends after a while.
func in(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}
