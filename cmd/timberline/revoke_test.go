package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"timberline/edge/auth"
	"timberline/wire"
)

// A hand talks to a plain socket in JSON, as one does with nc.
type hand struct {
	t       *testing.T
	conn    net.Conn
	session string
}

func newHand(t *testing.T, p *process) *hand {
	t.Helper()
	conn, err := net.Dial("udp", p.ListenPlain[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &hand{t: t, conn: conn}
}

// hear returns the first frame of a type that comes. Meanwhile it pings.
func hear[F wire.Frame](h *hand) F {
	h.t.Helper()
	buf := make([]byte, wire.MaxPacket)
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		if h.session != "" {
			fmt.Fprintf(h.conn, `{"session":%q,"ping":{}}`+"\n", h.session)
		}
		h.conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		n, err := h.conn.Read(buf)
		if err != nil {
			continue
		}
		p, err := wire.Decode(buf[:n])
		if err != nil {
			h.t.Fatal(err)
		}
		for _, f := range p.Frames {
			if f, ok := f.(F); ok {
				return f
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	h.t.Fatalf("no %T comes", *new(F))
	panic("not reached")
}

func (h *hand) login(token string) {
	h.t.Helper()
	fmt.Fprintf(h.conn, `{"login":{"version":1,"token":%q}}`+strings.Repeat(" ", 200)+"\n", token)
}

func (h *hand) in(token string) *hand {
	h.t.Helper()
	h.login(token)
	h.session = hear[*wire.Accepted](h).Session.String()
	return h
}

// wantDenied checks that a token is refused.
func (h *hand) wantDenied(token string, why wire.Reason) {
	h.t.Helper()
	h.login(token)
	if d := hear[*wire.Denied](h); d.Reason != why {
		h.t.Errorf("denied: %v, want %v", d.Reason, why)
	}
}

// newPlainServer starts a server that has a plain socket, too.
func newPlainServer(t *testing.T, args ...string) *process {
	t.Helper()
	p, _ := newServer(t, append(args, "--listen-plain", "127.0.0.1:0")...)
	return p
}

func TestSessionsOfARevokedUserAreClosed(t *testing.T) {
	p := newPlainServer(t)
	token := tokenOf(t, p.Data, "alice")
	alice, bob := newHand(t, p).in(token), newHand(t, p).in(tokenOf(t, p.Data, "bob"))
	tl(t, "revoke", "--user", "alice", "--data", p.Data).want(t, exitOK, "revoked: user alice", "")
	if c := hear[*wire.Closed](alice); c.Reason != wire.ReasonRevoked {
		t.Errorf("closed: %v, want revoked", c.Reason)
	}
	newHand(t, p).wantDenied(token, wire.ReasonRevoked)
	newHand(t, p).wantDenied(tokenOf(t, p.Data, "alice"), wire.ReasonRevoked)
	hear[*wire.Pong](bob) // is somebody else
	tl(t, "inbox", "--server", p.Listen[0], "--data", p.Data, "--as", "alice").want(t, exitFailed, "", "login was denied: revoked")
}

func TestOlderTokensAreRevokedAndFreshOnesLogIn(t *testing.T) {
	p := newPlainServer(t)
	token := tokenOf(t, p.Data, "alice")
	alice := newHand(t, p).in(token)
	o := tl(t, "revoke", "--user", "alice", "--device", "phone", "--before", "now", "--data", p.Data, "--json").want(t, exitOK, `"in_force":true`, "")
	if c := hear[*wire.Closed](alice); c.Reason != wire.ReasonRevoked {
		t.Errorf("closed: %v, want revoked", c.Reason)
	}
	newHand(t, p).wantDenied(token, wire.ReasonRevoked)
	var made struct{ Before time.Time }
	if err := json.Unmarshal([]byte(o.out), &made); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(made.Before))
	newHand(t, p).in(tokenOf(t, p.Data, "alice"))
}

func TestOneTokenIsRevokedByItsIDOrItself(t *testing.T) {
	p := newPlainServer(t)
	var made struct{ Token, ID string }
	o := tl(t, "token", "--data", p.Data, "--user", "alice", "--device", "phone", "--json").want(t, exitOK, "", "")
	if err := json.Unmarshal([]byte(o.out), &made); err != nil || made.ID == "" {
		t.Fatalf("%s: %v", o.out, err)
	}
	other, third := tokenOf(t, p.Data, "alice"), tokenOf(t, p.Data, "alice")
	tl(t, "revoke", "--token", made.ID, "--data", p.Data).want(t, exitOK, "revoked: token "+made.ID, "")
	tl(t, "revoke", "--token", other+"\n", "--data", p.Data).want(t, exitOK, "revoked: token ", "")
	newHand(t, p).wantDenied(made.Token, wire.ReasonRevoked)
	newHand(t, p).wantDenied(other, wire.ReasonRevoked)
	newHand(t, p).in(third)
	tl(t, "revoke", "--list", "--data", p.Data).want(t, exitOK, "token "+made.ID+"\n", "")
	if n := len(tl(t, "revoke", "--list", "--json", "--data", p.Data).want(t, exitOK, `{"token":"`+made.ID+`","added":"20`, "").lines()); n != 2 {
		t.Errorf("%d lines, want 2", n)
	}
}

func TestListIsReadAgainWhenItIsEdited(t *testing.T) {
	t.Parallel()
	list := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p := newPlainServer(t, "--revocations", list)
	alice := newHand(t, p).in(tokenOf(t, p.Data, "alice"))
	if err := os.WriteFile(list, []byte("# by hand\nuser alice\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if c := hear[*wire.Closed](alice); c.Reason != wire.ReasonRevoked || time.Since(began) > 5*time.Second {
		t.Errorf("closed: %v after %v, want revoked within 5 s", c.Reason, time.Since(began))
	}
	if err := os.WriteFile(list, []byte("user bob\nusr alice\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tl(t, "revoke", "--user", "carol", "--data", p.Data).want(t, exitFailed, "", list+`, line 2: "usr alice": want "user NAME"`)
	time.Sleep(5 * time.Second)
	newHand(t, p).wantDenied(tokenOf(t, p.Data, "alice"), wire.ReasonRevoked)
	newHand(t, p).in(tokenOf(t, p.Data, "bob"))
	p.end(os.Interrupt)
	if n := strings.Count(p.stderr.String(), "line 2"); n != 1 {
		t.Errorf("the wrong line is logged %d times, want once:\n%s", n, p.stderr)
	}
	tl(t, "serve", "--data", p.Data, "--revocations", list, "--listen", "127.0.0.1:0").want(t, exitUsage, "", "--revocations is of no use: "+list+", line 2")
	tl(t, "serve", "--data", p.Data, "--revocations", list+"x", "--listen", "127.0.0.1:0").want(t, exitUsage, "", "there is no such file")
}

func TestRevocationsGoWhereTheServerReadsThem(t *testing.T) {
	list := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p, flags := newServer(t, "--revocations", list)
	tl(t, "revoke", "--user", "alice", "--data", p.Data).want(t, exitOK, "revoked: user alice", "")
	tl(t, "revoke", "--user", "bob", "--data", p.Data, "--revocations", list).want(t, exitOK, "revoked: user bob", "")
	tl(t, "revoke", "--user", "bob", "--data", p.Data, "--revocations", list+"x").want(t, exitUsage, "", "reads "+list)
	tl(t, with("inbox", flags, "--as", "alice")...).want(t, exitFailed, "", "revoked")
	p.end(os.Interrupt)

	tl(t, "revoke", "--user", "carol", "--data", p.Data).want(t, exitOK, "no server runs on "+p.Data, "")
	tl(t, "revoke", "--list", "--data", p.Data).want(t, exitOK, "user carol", "")
	again := startProcess(t, "--data", p.Data, "--listen", "127.0.0.1:0")
	tl(t, "inbox", "--server", again.Listen[0], "--data", p.Data, "--as", "carol").want(t, exitFailed, "", "revoked")
	tl(t, "revoke", "--user", "alice", "--data", filepath.Join(p.Data, "none")).want(t, exitFailed, "", "there is no folder for")
}

func TestUserHasNoMoreSessionsThanAllowed(t *testing.T) {
	p := newPlainServer(t, "--user-sessions", "1", "--max-heartbeat", "1m", "--half-open", "8", "--session-rate", "100", "--source-rate", "100")
	newHand(t, p).in(tokenOf(t, p.Data, "alice"))
	key, err := signingKey(p.Data)
	if err != nil {
		t.Fatal(err)
	}
	token, err := auth.Sign(key, fresh(auth.Identity{User: "alice", Device: "pad"}, time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	newHand(t, p).wantDenied(token, wire.ReasonSessions)
}
