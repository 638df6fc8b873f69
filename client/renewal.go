package client

import (
	"math"
	"time"

	"timberline/events"
	"timberline/wire"
	"timberline/wire/sealed"
)

// A session ends with its token. So that it need not, the device gets a fresh one
// when a tenth of the token's time is left, and logs in with that in the session.
// If nothing comes of it the session ends, and the next one begins with a fresh
// token, too: that costs a moment, and nothing else.

// minRenewal is the least time between two tries to renew a token.
const minRenewal = time.Second

// granted takes in what an accepted login says of the token, and of the next HELLO.
func (l *link) granted(now time.Time, f *wire.Accepted, jitter func(time.Duration) time.Duration) {
	if l.seal != nil && len(f.Cookie) == sealed.CookieSize {
		l.seal.cookie = sealed.Cookie(f.Cookie)
	}
	l.expires, l.renewAt = time.Time{}, time.Time{}
	if f.Expires == 0 || f.Expires > math.MaxInt64/uint64(time.Millisecond) {
		return
	}
	left := time.Duration(f.Expires) * time.Millisecond
	l.expires = now.Add(left)
	l.renewAt = l.expires.Add(-left/10 - jitter(left/10))
}

// renew reports whether to get a fresh token now. Old sessions are settled first.
func (l *link) renew(now time.Time) bool {
	if l.phase != joined || l.renewAt.IsZero() || now.Before(l.renewAt) || !l.loginAt.IsZero() {
		return false
	}
	l.renewAt = time.Time{}
	return true
}

// renewing reports whether a LOGIN with a fresh token is on its way.
func (l *link) renewing() bool {
	return l.phase == joined && !l.loginAt.IsZero() && l.settle == (events.SessionID{})
}

// renewLater plans another try, in half of the time that is left.
func (l *link) renewLater(now time.Time) {
	if left := l.expires.Sub(now); left > 2*minRenewal {
		l.renewAt = now.Add(left / 2)
	}
}

// gotToken goes on with a fresh token; err says that there is none.
func (d *device) gotToken(now time.Time, token string, err error) {
	l := &d.link
	if l.phase != joined || !l.loginAt.IsZero() {
		return
	}
	f := d.makeLogin(token)
	if err != nil || d.loginSize(f) > wire.MaxPacket {
		l.renewLater(now)
		return
	}
	l.login, l.loginAt, l.logins = f, now, 0
}

// renewed takes in the answer to a LOGIN that renews the token: nil says that it
// was denied.
func (d *device) renewed(now time.Time, f *wire.Accepted) {
	l := &d.link
	l.loginAt = time.Time{}
	if f == nil {
		l.renewLater(now)
		return
	}
	l.granted(now, f, d.jitter)
}
