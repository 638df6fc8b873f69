package sealed

import (
	"bytes"
	"crypto/ecdh"
	"encoding/base64"
	"testing"

	"timberline/events"
)

// A handshakeVector is a whole handshake, with all that an implementer compares.
type handshakeVector struct {
	Protocol         string   `json:"protocol"`
	ServerPrivate    hexBytes `json:"server_private"`
	ServerPublic     hexBytes `json:"server_public"`
	ServerPublicText string   `json:"server_public_text"`
	ClientPrivate    hexBytes `json:"client_ephemeral_private"`
	ClientPublic     hexBytes `json:"client_ephemeral_public"`
	EdgePrivate      hexBytes `json:"edge_ephemeral_private"`
	EdgePublic       hexBytes `json:"edge_ephemeral_public"`

	Hello           hexBytes      `json:"hello"`
	Retries         []retryVector `json:"retries"`
	HelloWithCookie hexBytes      `json:"hello_with_cookie"`
	Session         hexBytes      `json:"session"`
	SessionText     string        `json:"session_text"`
	ResetToken      hexBytes      `json:"reset_token"`
	Welcome         hexBytes      `json:"welcome"`
	WelcomeOfLater  hexBytes      `json:"welcome_of_later_version"`
	Reset           hexBytes      `json:"reset"`

	Steps     []step   `json:"steps"`
	ClientKey hexBytes `json:"key_of_client_packets"`
	EdgeKey   hexBytes `json:"key_of_edge_packets"`
}

// A retryVector is a RETRY that answers the HELLO.
type retryVector struct {
	Cause   Cause    `json:"cause"`
	Version uint8    `json:"version"`
	Cookie  hexBytes `json:"cookie"`
	Packet  hexBytes `json:"packet"`
}

// What the vectors are made of.
var (
	goldenStatic  = goldenKey(0x00)
	goldenClient  = goldenKey(0x40)
	goldenEdge    = goldenKey(0xa0)
	goldenWelcome = Welcome{Session: events.SessionID(counted(0x20, 16)), Reset: Token(counted(0x60, 16))}
	goldenCookie  = Cookie(counted(0x70, CookieSize))
	goldenRetries = []Retry{
		{Version: 1, Cause: CauseCookie, Cookie: goldenCookie}, {Version: 2, Cause: CauseVersion}, {Version: 1, Cause: CauseKey},
	}
)

func goldenKey(first byte) *ecdh.PrivateKey {
	key, err := ecdh.X25519().NewPrivateKey(counted(first, dhSize))
	if err != nil {
		panic(err) // 32 bytes are a key
	}
	return key
}

// noiseVectors makes the handshake without this package.
func noiseVectors(t *testing.T) (v handshakeVector, client, edge *noiseChannel) {
	t.Helper()
	c, err := newNoiseClient(goldenStatic.PublicKey(), goldenClient)
	if err != nil {
		t.Fatal(err)
	}
	public := goldenStatic.PublicKey().Bytes()
	v = handshakeVector{
		Protocol:         protocolName,
		ServerPrivate:    goldenStatic.Bytes(),
		ServerPublic:     public,
		ServerPublicText: base64.RawURLEncoding.EncodeToString(public),
		ClientPrivate:    goldenClient.Bytes(),
		ClientPublic:     goldenClient.PublicKey().Bytes(),
		EdgePrivate:      goldenEdge.Bytes(),
		EdgePublic:       goldenEdge.PublicKey().Bytes(),
		Hello:            c.hello(nil),
		HelloWithCookie:  c.hello(goldenCookie[:]),
		Session:          goldenWelcome.Session[:],
		SessionText:      goldenWelcome.Session.String(),
		ResetToken:       goldenWelcome.Reset[:],
		Reset:            append(append([]byte{5}, goldenWelcome.Session[:]...), goldenWelcome.Reset[:]...),
	}
	for _, r := range goldenRetries {
		packet := append([]byte{2, r.Version, byte(r.Cause)}, v.Hello[10:26]...)
		v.Retries = append(v.Retries, retryVector{Cause: r.Cause, Version: r.Version, Cookie: r.Cookie[:], Packet: append(packet, r.Cookie[:]...)})
	}
	payload := append(goldenWelcome.Session[:], goldenWelcome.Reset[:]...)
	var n noiseEdge
	if v.WelcomeOfLater, _, err = n.respond(goldenStatic, goldenEdge, v.HelloWithCookie, append(payload, counted(0xc0, 8)...)); err != nil {
		t.Fatal(err)
	}
	if v.Welcome, edge, err = n.respond(goldenStatic, goldenEdge, v.HelloWithCookie, payload); err != nil {
		t.Fatal(err)
	}
	if client, _, err = c.finish(v.Welcome); err != nil {
		t.Fatal(err)
	}
	if string(asJSON(t, c.hs.trace)) != string(asJSON(t, n.hs.trace)) {
		t.Errorf("the two sides went different ways:\n%s\n%s", asJSON(t, c.hs.trace), asJSON(t, n.hs.trace))
	}
	v.Steps, v.ClientKey, v.EdgeKey = c.hs.trace, client.send.k[:], client.recv.k[:]
	return v, client, edge
}

// goldenHello begins the handshake of the vectors.
func goldenHello(t *testing.T) (*Initiator, Hello) {
	t.Helper()
	i, err := NewInitiator(NewServerKey(goldenStatic).Public, bytes.NewReader(goldenClient.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	h, err := ParseHello(i.Hello(goldenCookie))
	if err != nil {
		t.Fatal(err)
	}
	return i, h
}

// goldenChannels makes the connection of the vectors.
func goldenChannels(t *testing.T) (client, edge *Channel) {
	t.Helper()
	i, h := goldenHello(t)
	answer, edge, err := h.Respond(NewServerKey(goldenStatic), goldenWelcome, bytes.NewReader(goldenEdge.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	client, _, err = i.Finish(answer)
	if err != nil {
		t.Fatal(err)
	}
	return client, edge
}

func TestGoldenHandshakeIsMadeAsEver(t *testing.T) {
	want, _, _ := noiseVectors(t)
	v := golden(t, "handshake.json", want)

	key, err := ParseKey(v.ServerPublicText)
	if ours := NewServerKey(goldenStatic).Public; err != nil || key != ours || !bytes.Equal(key[:], v.ServerPublic) {
		t.Errorf("%q reads as %v, %v, want %v", v.ServerPublicText, key, err, ours)
	}
	i, h := goldenHello(t)
	wantPacket(t, "HELLO", i.Hello(Cookie{}), v.Hello)
	wantPacket(t, "HELLO with a cookie", i.Hello(goldenCookie), v.HelloWithCookie)
	for n, r := range goldenRetries {
		wantPacket(t, "RETRY", h.AppendRetry(nil, r), v.Retries[n].Packet)
		if got, err := i.Retry(v.Retries[n].Packet); err != nil || got != r {
			t.Errorf("RETRY says %+v, %v, want %+v", got, err, r)
		}
	}
	answer, edge, err := h.Respond(NewServerKey(goldenStatic), goldenWelcome, bytes.NewReader(goldenEdge.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	wantPacket(t, "WELCOME", answer, v.Welcome)
	client, w, err := i.Finish(v.Welcome)
	if err != nil || w != goldenWelcome {
		t.Fatalf("WELCOME says %+v, %v, want %+v", w, err, goldenWelcome)
	}
	wantPacket(t, "h at the end", i.state.ChannelBinding(), v.Steps[len(v.Steps)-1].H)
	wantPacket(t, "RESET", AppendReset(nil, w.Session, w.Reset), v.Reset)
	if !IsReset(v.Reset, w.Session, w.Reset) {
		t.Error("the RESET is not known")
	}
	if got, _, err := open(edge, seal(t, client, "hello")); got != "hello" || err != nil {
		t.Errorf("the client's first packet: %q, %v", got, err)
	}

	i, _ = goldenHello(t)
	later, w, err := i.Finish(v.WelcomeOfLater)
	if err != nil || w != goldenWelcome {
		t.Fatalf("WELCOME of a later version says %+v, %v, want %+v", w, err, goldenWelcome)
	}
	if got, _, err := open(later, seal(t, edge, "hello")); got != "hello" || err != nil {
		t.Errorf("the edge's first packet after a WELCOME of a later version: %q, %v", got, err)
	}
}

func wantPacket(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s: made\n%x\nthe file has\n%x", what, got, want)
	}
}
