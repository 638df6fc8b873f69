package servers

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// killedFolder names the folder of a process that is to be killed.
const killedFolder = "TIMBERLINE_TEST_KILLED"

func TestMain(m *testing.M) {
	if folder := os.Getenv(killedFolder); folder != "" {
		toBeKilled(folder)
		return
	}
	Main(m)
}

const patience = 10 * time.Second

// call makes one request to DynamoDB, which takes any signature.
func call(t *testing.T, s *Server, operation, body string) (status int, answer string) {
	t.Helper()
	request, err := http.NewRequest("POST", s.URL(), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Amz-Target", "DynamoDB_20120810."+operation)
	request.Header.Set("Content-Type", "application/x-amz-json-1.0")
	request.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/local/dynamodb/aws4_request, SignedHeaders=host, Signature=00")
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	got, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	return got.StatusCode, string(text)
}

// mustCall makes a request that succeeds.
func mustCall(t *testing.T, s *Server, operation, body string) string {
	t.Helper()
	status, answer := call(t, s, operation, body)
	if status != http.StatusOK {
		t.Fatalf("%s: %d %s", operation, status, answer)
	}
	return answer
}

const createTable = `{"TableName": "kept", "BillingMode": "PAY_PER_REQUEST",
	"AttributeDefinitions": [{"AttributeName": "k", "AttributeType": "S"}],
	"KeySchema": [{"AttributeName": "k", "KeyType": "HASH"}]}`

func TestDynamoDBKeepsItsDataOverStopAndKill(t *testing.T) {
	s, err := StartDynamoDB(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	url := s.URL()
	mustCall(t, s, "CreateTable", createTable)
	for i, end := range []func() error{s.Stop, s.Kill} {
		mustCall(t, s, "PutItem", fmt.Sprintf(`{"TableName": "kept", "Item": {"k": {"S": "item %d"}}}`, i))
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if conn, err := net.Dial("tcp", s.Addr()); err == nil {
			conn.SetDeadline(time.Now().Add(patience))
			if err := answersHTTP(conn); err == nil {
				t.Error("it answers after its end")
			}
			conn.Close()
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
	}
	answer := mustCall(t, s, "Scan", `{"TableName": "kept"}`)
	if !strings.Contains(answer, "item 0") || !strings.Contains(answer, "item 1") || s.URL() != url {
		t.Errorf("after restarts %s holds %s, want two items at %s", s.URL(), answer, url)
	}
}

func TestDynamoDBIsSharedByThePackage(t *testing.T) {
	one, two := DynamoDB(t), DynamoDB(t)
	if one != two {
		t.Error("two tests have two servers")
	}
	mustCall(t, one, "ListTables", `{}`)
}

// speak connects and returns whether the server answers within a while.
func speak(s *Server) error {
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	return s.program.answer(conn)
}

func TestRabbitMQIsSharedByThePackage(t *testing.T) {
	s := RabbitMQ(t)
	if s != RabbitMQ(t) {
		t.Error("two tests have two servers")
	}
	if err := speak(s); err != nil {
		t.Error(err)
	}
}

func TestRabbitMQStopsAndStartsAtTheSameAddress(t *testing.T) {
	s, err := StartRabbitMQ(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	url := s.URL()
	for _, end := range []func() error{s.Stop, s.Kill} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if speak(s) == nil {
			t.Error("it answers after its end")
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		if err := speak(s); err != nil || s.URL() != url {
			t.Errorf("%s after a restart, want %s: %v", s.URL(), url, err)
		}
	}
	if err := s.Start(); err == nil {
		t.Error("it was started twice")
	}
}

func TestWayToASharedServerIsTheTestsOwn(t *testing.T) {
	shared := RabbitMQ(t)
	way := Way(t, shared)
	speaks := func(url string) error {
		conn, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(url, "amqp://guest:guest@"), "/"))
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		return answersAMQP(conn)
	}
	if err := speaks(way.URL()); err != nil {
		t.Errorf("%s: %v", way.URL(), err)
	}
	way.Away()
	if speaks(way.URL()) == nil {
		t.Error("the way is not cut off")
	}
	if err := speaks(shared.URL()); err != nil {
		t.Errorf("the shared server is cut off: %v", err)
	}
	if way.Start() == nil {
		t.Error("a way was started")
	}
}

// echo is a server that repeats what it gets, behind a forwarder.
func echo(t *testing.T) *Server {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(conn, conn)
				conn.Close()
			}()
		}
	}()
	f, err := newForwarder()
	if err != nil {
		t.Fatal(err)
	}
	f.to(func() (net.Conn, error) { return net.Dial("tcp", listener.Addr().String()) })
	t.Cleanup(func() {
		f.close()
		listener.Close()
	})
	return &Server{forward: f}
}

// connect returns a connection that has been through to the server.
func connect(t *testing.T, s *Server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	if err := exchange(conn); err != nil {
		t.Fatal(err)
	}
	return conn
}

// exchange sends something and waits for it to come back.
func exchange(conn net.Conn) error {
	if _, err := conn.Write([]byte("hello")); err != nil {
		return err
	}
	var got [5]byte
	if _, err := io.ReadFull(conn, got[:]); err != nil {
		return err
	}
	if string(got[:]) != "hello" {
		return fmt.Errorf("%q came back", got)
	}
	return nil
}

func TestAwayCutsAndRefusesUntilBack(t *testing.T) {
	s := echo(t)
	conn := connect(t, s)
	s.Away()
	if err := exchange(conn); err == nil {
		t.Error("a connection outlives Away")
	}
	if late, err := net.Dial("tcp", s.Addr()); err == nil {
		late.SetDeadline(time.Now().Add(patience))
		if exchange(late) == nil {
			t.Error("a connection is served while the server is away")
		}
		late.Close()
	}
	s.Back()
	connect(t, s)
}

func TestCutEndsConnectionsAndServesNewOnes(t *testing.T) {
	s := echo(t)
	conn := connect(t, s)
	s.Cut()
	if err := exchange(conn); err == nil {
		t.Error("a connection outlives Cut")
	}
	connect(t, s)
}

func TestHangPassesNothingUntilBack(t *testing.T) {
	s := echo(t)
	old := connect(t, s)
	s.Hang()
	fresh, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	for _, conn := range []net.Conn{old, fresh} {
		conn.SetDeadline(time.Now().Add(50 * time.Millisecond))
		if err := exchange(conn); err == nil {
			t.Error("something passed")
		}
	}
	s.Back()
	for _, conn := range []net.Conn{old, fresh} {
		conn.SetDeadline(time.Now().Add(patience))
		var got [5]byte
		if _, err := io.ReadFull(conn, got[:]); err != nil || string(got[:]) != "hello" {
			t.Errorf("%q came after Back, want what hung: %v", got, err)
		}
	}
}

func TestHangingConnectionsEndWithAway(t *testing.T) {
	s := echo(t)
	conn := connect(t, s)
	s.Hang()
	conn.Write([]byte("hello"))
	s.Away()
	var got [5]byte
	if _, err := io.ReadFull(conn, got[:]); err == nil {
		t.Errorf("%q passed", got)
	}
	s.Back()
	connect(t, s)
}

func TestMuchPassesWhole(t *testing.T) {
	s := echo(t)
	conn := connect(t, s).(*net.TCPConn)
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() {
		conn.Write(want)
		conn.CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes came back, want %d: %v", len(got), len(want), err)
	}
}

// A client that is slow to read has what the server sent before it closed.
func TestWhatWasSentBeforeAnEndArrives(t *testing.T) {
	s := echo(t)
	conn := connect(t, s).(*net.TCPConn)
	want := bytes.Repeat([]byte("0123456789abcdef"), 20<<10)
	go func() {
		conn.Write(want)
		conn.CloseWrite()
	}()
	time.Sleep(200 * time.Millisecond)
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes came back, want %d: %v", len(got), len(want), err)
	}
}

func TestServerThatCannotStartSaysWhatToDo(t *testing.T) {
	t.Setenv("TIMBERLINE_SERVERS", t.TempDir())
	_, err := StartDynamoDB("")
	if err == nil || !strings.Contains(err.Error(), "make servers") {
		t.Errorf("%v, want it to name what installs the server", err)
	}
}

// A failing is a test that ends with what Fatal was told.
type failing struct {
	testing.TB
	said string
}

func (f *failing) Fatal(args ...any) {
	f.said = fmt.Sprint(args...)
	runtime.Goexit()
}

func TestServerThatDoesNotStartFailsEachTestAndStartsOnce(t *testing.T) {
	starts := 0
	for range 2 {
		f := &failing{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			share(f, "TIMBERLINE_TEST_MISSING", func(string) (*Server, error) {
				starts++
				return nil, missing("program")
			})
		}()
		<-done
		if !strings.Contains(f.said, "make servers") {
			t.Errorf("a test without its server was told %q", f.said)
		}
	}
	if starts != 1 {
		t.Errorf("it was started %d times", starts)
	}
}

func TestNamedServerIsTaken(t *testing.T) {
	t.Setenv("TIMBERLINE_TEST_ANY", "http://127.0.0.1:1")
	s := share(t, "TIMBERLINE_TEST_ANY", nil)
	if s.URL() != "http://127.0.0.1:1" {
		t.Errorf("%s was taken", s.URL())
	}
	defer func() {
		if recover() == nil {
			t.Error("a server that is not ours was cut off")
		}
	}()
	s.Away()
}
