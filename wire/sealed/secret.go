package sealed

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"time"

	"timberline/events"
)

// CookieLife is how long a cookie is fresh.
const CookieLife = time.Hour

// A Secret is what an edge alone knows, over all restarts: reset tokens and
// cookies follow from it, so that nothing need be kept for them.
type Secret [32]byte

// ResetToken returns the token by which a client knows that its session is dead.
func (s *Secret) ResetToken(id events.SessionID) Token {
	return Token(s.mac("reset", id[:]))
}

// Cookie returns what proves, for CookieLife, that somebody receives at an
// address. The port is left out: the next login comes from another.
func (s *Secret) Cookie(a netip.Addr, now time.Time) Cookie {
	var c Cookie
	binary.BigEndian.PutUint64(c[:], uint64(now.Unix()))
	copy(c[8:], s.cookieMAC(c, a))
	return c
}

// Fresh reports whether a cookie proves an address.
func (s *Secret) Fresh(c Cookie, a netip.Addr, now time.Time) bool {
	age := now.Unix() - int64(binary.BigEndian.Uint64(c[:]))
	return age >= 0 && age < int64(CookieLife/time.Second) && hmac.Equal(c[8:], s.cookieMAC(c, a))
}

func (s *Secret) cookieMAC(c Cookie, a netip.Addr) []byte {
	a = a.Unmap()
	ip := a.As16()
	data := append(c[:8:8], ip[:]...)
	return s.mac("cookie", append(data, a.Zone()...))[:CookieSize-8]
}

// mac returns 16 bytes that only who has the secret can make.
func (s *Secret) mac(use string, data []byte) []byte {
	h := hmac.New(sha256.New, s[:])
	h.Write([]byte("timberline " + use + "\x00"))
	h.Write(data)
	return h.Sum(nil)[:16]
}
