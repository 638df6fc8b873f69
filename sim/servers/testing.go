package servers

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"sync"
	"testing"
)

// shared are the servers of a package's tests: one of each kind at most.
var shared struct {
	sync.Mutex
	inMain  bool
	servers map[string]*Server
	errs    map[string]error // a server that did not start will not the next time
}

// Main runs a package's tests, stops the servers that they have used, and exits. It is
// for TestMain:
//
//	func TestMain(m *testing.M) { servers.Main(m) }
func Main(m *testing.M) { os.Exit(Run(m)) }

// Run is Main for those who have more to do at the end: it returns the exit status.
func Run(m *testing.M) (code int) {
	shared.Lock()
	shared.inMain = true
	shared.servers, shared.errs = make(map[string]*Server), make(map[string]error)
	shared.Unlock()
	code = m.Run()
	shared.Lock()
	defer shared.Unlock()
	for _, s := range shared.servers {
		if s.forward == nil {
			continue
		}
		if err := s.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	return code
}

// DynamoDB returns the DynamoDB Local that the package's tests share, in memory, or
// the DynamoDB that TIMBERLINE_TEST_DYNAMODB names. Tests keep apart by the names of
// their tables or keys; none stops it. It fails the test if there is none.
func DynamoDB(t testing.TB) *Server {
	t.Helper()
	return share(t, "TIMBERLINE_TEST_DYNAMODB", StartDynamoDB)
}

// RabbitMQ returns the RabbitMQ that the package's tests share, or the one that
// TIMBERLINE_TEST_AMQP names. Tests keep apart by the names of their queues; none
// stops it. It fails the test if there is none.
func RabbitMQ(t testing.TB) *Server {
	t.Helper()
	return share(t, "TIMBERLINE_TEST_AMQP", StartRabbitMQ)
}

// Way returns a way to a shared server, which the test has for itself: it may cut it off
// (Away, Hang, Cut), but not stop the server.
func Way(t testing.TB, to *Server) *Server {
	t.Helper()
	target, err := url.Parse(to.URL())
	if err != nil {
		t.Fatal(err)
	}
	f, err := newForwarder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.close)
	server := target.Host
	f.to(func() (net.Conn, error) { return net.Dial("tcp", server) })
	target.Host = f.addr()
	return &Server{url: target.String(), forward: f, closed: true}
}

func share(t testing.TB, variable string, start func(folder string) (*Server, error)) *Server {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if !shared.inMain {
		t.Fatal("the package's TestMain must call servers.Main")
	}
	if shared.servers[variable] == nil && shared.errs[variable] == nil {
		if url := os.Getenv(variable); url != "" {
			shared.servers[variable] = &Server{url: url}
		} else if s, err := start(""); err != nil {
			shared.errs[variable] = err
		} else {
			shared.servers[variable] = s
		}
	}
	if err := shared.errs[variable]; err != nil {
		t.Fatal(err)
	}
	return shared.servers[variable]
}
