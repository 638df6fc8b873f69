package edge

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"timberline/edge/auth"
	"timberline/events"
	"timberline/ingest"
	"timberline/wire"
)

// retryLogin is what a client is told to wait when there is no room for it.
const retryLogin = time.Second

// plainLogin takes in a Login in plain mode, where nothing else tells a repeat.
func (t *table) plainLogin(now time.Time, who stranger, f *wire.Login) {
	s := t.attempts[attemptOf(f)]
	switch {
	case s == nil:
		t.login(who, f)
	case s.state == open:
		s.heard, s.src = now, who.src
		t.repeated(now, s, f.Attempt)
	}
}

// login takes in a Login: the token is checked first, then the session is bound
// to the user, and then the store is read; so no push is missed in between.
func (t *table) login(who stranger, f *wire.Login) {
	if who.half != nil {
		if who.half.verifying {
			return // a repeat
		}
		who.half.verifying = true
	}
	t.counts.logins.Add(1)
	turn := t.nextTurn()
	if who.half != nil {
		turn = who.half.turn
	}
	login := *f
	login.Settle = slices.Clone(f.Settle)
	switch {
	case f.Version != wire.Version:
		t.deny(who, &login, wire.ReasonVersion, "this edge speaks version 1", 0)
		return
	case t.draining:
		t.deny(who, &login, wire.ReasonShutdown, "", retryLogin)
		return
	case t.crammed():
		t.deny(who, &login, wire.ReasonBusy, "", retryLogin)
		return
	}
	t.want(func(context.Context) func(time.Time) {
		id, err := t.cfg.Verify(login.Token, t.cfg.Now())
		return func(now time.Time) { t.verified(now, who, turn, &login, id, err) }
	}, func(time.Time) {
		t.deny(who, &login, wire.ReasonBusy, "", retryLogin)
	})
}

// An attempt is what a Login and its repeats have in common. Whoever has the token
// may know the session; whoever knows the id alone has proved nothing.
type attempt struct {
	id    events.MessageID // zero: none, it cannot be repeated
	token [sha256.Size]byte
}

func attemptOf(f *wire.Login) attempt {
	if f.Attempt == (events.MessageID{}) {
		return attempt{}
	}
	return attempt{f.Attempt, sha256.Sum256([]byte(f.Token))}
}

func (t *table) deny(who stranger, f *wire.Login, why wire.Reason, detail string, retry time.Duration) {
	t.counts.denied.Add(1)
	if who.half != nil {
		who.half.verifying = false
	}
	t.tell(who, events.SessionID{}, &wire.Denied{
		Attempt: f.Attempt, Reason: why, Detail: detail, RetryAfter: uint32(retry.Milliseconds()),
	})
}

// repeated answers a Login that came again: its answer was lost.
func (t *table) repeated(now time.Time, s *session, attempt events.MessageID) {
	s.accepted(now, attempt)
	for _, f := range s.settled {
		s.say(f)
	}
}

// verified goes on after the token was checked.
func (t *table) verified(now time.Time, who stranger, turn uint64, f *wire.Login, id auth.Identity, err error) {
	why := t.judge(id, err)
	switch {
	case who.half != nil && !t.ring.has(who.half):
		return // pushed out meanwhile: who asks is told that its session is dead
	case why != wire.ReasonNone:
		t.deny(who, f, why, detailOf(err), 0)
		return
	case t.draining:
		t.deny(who, f, wire.ReasonShutdown, "", retryLogin)
		return
	case who.half == nil && t.attempts[attemptOf(f)] != nil:
		return // a repeat that came while the token was being checked
	case t.crammed(): // by those that were checked before
		t.deny(who, f, wire.ReasonBusy, "", retryLogin)
		return
	case t.full(id):
		t.deny(who, f, wire.ReasonSessions, "", retrySessions)
		return
	}
	s := &session{table: t, turn: turn, attempt: attemptOf(f), renewal: f.Attempt, codec: who.codec, src: who.src, heard: now, slot: -1}
	s.idle = idleHeartbeats * t.cfg.Heartbeat
	s.owner = ingest.Owner{User: id.User, Device: id.Device}
	if who.half != nil {
		t.ring.drop(who.half)
		s.channel, s.owner.Session = who.half.channel, who.half.session
	} else if s.owner.Session, err = events.NewSessionID(t.cfg.Tag, t.cfg.Random); err != nil {
		t.cfg.Logger.Error("no session can be made", "err", err)
		t.deny(who, f, wire.ReasonBusy, "", retryLogin)
		return
	}
	t.identify(now, s, id)
	t.bind(s)
	t.open(now, s, f)
}

// judge says why a token is not good enough; ReasonNone if it is.
func (t *table) judge(id auth.Identity, err error) wire.Reason {
	switch {
	case errors.Is(err, auth.ErrExpired):
		return wire.ReasonExpired
	case errors.Is(err, auth.ErrRevoked), err == nil && t.cfg.Revocations.Revoked(id):
		return wire.ReasonRevoked
	case err != nil:
		return wire.ReasonBadToken
	}
	return wire.ReasonNone
}

// maxDetail bounds what a Denied says in words, in bytes: an error may repeat parts
// of the token, and JSON may make six bytes of each.
const maxDetail = 128

func detailOf(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	return strings.ToValidUTF8(text[:min(len(text), maxDetail)], "")
}

// retrySessions is what a client is told to wait whose user has too many sessions.
const retrySessions = 30 * time.Second

// crammed reports whether there are as many sessions as there may be.
func (t *table) crammed() bool { return len(t.sessions) >= t.cfg.MaxSessions }

// full reports whether the user has as many sessions as one may have, besides the
// one that the device has.
func (t *table) full(id auth.Identity) bool {
	if t.devices[device{id.User, id.Device}] != nil {
		return false
	}
	return len(t.users[id.User]) >= t.cfg.UserSessions
}

// identify notes who the session's token speaks for, and until when.
func (t *table) identify(now time.Time, s *session, id auth.Identity) {
	s.identity, s.expires = id, time.Time{}
	if !id.Expires.IsZero() {
		s.expires = now.Add(id.Expires.Sub(t.cfg.Now()))
	}
}

// loginAgain takes in a Login of a session: a repeat, or one that renews the token.
func (t *table) loginAgain(now time.Time, s *session, f *wire.Login) {
	switch {
	case s.state != open, s.renewing:
		return
	case f.Attempt == s.attempt.id, f.Attempt == s.renewal:
		t.repeated(now, s, f.Attempt)
		return
	}
	s.renewing = true
	attempt, token := f.Attempt, f.Token
	t.want(func(context.Context) func(time.Time) {
		id, err := t.cfg.Verify(token, t.cfg.Now())
		return func(now time.Time) { t.renewed(now, s, attempt, id, err) }
	}, func(time.Time) {
		s.renewing = false
		s.say(&wire.Denied{Attempt: attempt, Reason: wire.ReasonBusy, RetryAfter: uint32(retryLogin.Milliseconds())})
	})
}

// renewed goes on after the new token was checked. A bad one changes nothing.
func (t *table) renewed(now time.Time, s *session, attempt events.MessageID, id auth.Identity, err error) {
	s.renewing = false
	if s.state != open {
		return
	}
	why := t.judge(id, err)
	if why == wire.ReasonNone && (id.User != s.owner.User || id.Device != s.owner.Device) {
		why = wire.ReasonNotAllowed
	}
	if why != wire.ReasonNone {
		s.say(&wire.Denied{Attempt: attempt, Reason: why, Detail: detailOf(err)})
		return
	}
	if !id.Expires.Before(s.identity.Expires) { // or it is a repeat of an earlier LOGIN that comes late
		t.identify(now, s, id)
	}
	s.renewal = attempt
	s.accepted(now, attempt)
	t.due(now, s)
}

// bind makes the session hear of its user's pushes.
func (t *table) bind(s *session) {
	t.sessions[s.owner.Session] = s
	t.users[s.owner.User] = append(t.users[s.owner.User], s)
	if s.channel == nil && s.attempt != (attempt{}) {
		t.attempts[s.attempt] = s
	}
}

// opened is what the store says of a timeline.
type opened struct {
	asked time.Time // what stands there is no older
	run   events.Run
	found bool // the cursor is of this timeline
	err   error
}

// followWithin bounds how long a login waits for the bus. Whoever logs in while it
// does not answer has the head read at each heartbeat, or when it answers again.
const followWithin = 500 * time.Millisecond

// open reads the store for a session that is bound. Pushes come here before the head
// is read: so none is missed in between.
func (t *table) open(now time.Time, s *session, f *wire.Login) {
	cursor := f.Cursor
	if f.Store != t.cfg.Store {
		cursor = 0
	}
	user := s.owner.User
	t.want(func(ctx context.Context) func(time.Time) {
		t.follow(ctx, user)
		o := t.readTimeline(ctx, now, user, cursor)
		return func(now time.Time) { t.opened(now, s, f, cursor, o) }
	}, func(time.Time) {
		t.abandon(s, f)
	})
}

// follow is a task's part: it makes the user's pushes come here.
func (t *table) follow(ctx context.Context, u events.User) {
	ctx, cancel := context.WithTimeout(ctx, followWithin)
	defer cancel()
	if t.cfg.Bus.Follow(ctx, u.Slot()) != nil {
		t.counts.unfollowed.Add(1)
	}
}

// readTimeline is a task's part: where the timeline ends, and the clock moved
// above all that stands there (R4). The device may have been shown more than its
// cursor says: it is killed before it has kept that, and another edge, whose clock
// was ahead, has shown it.
func (t *table) readTimeline(ctx context.Context, asked time.Time, u events.User, cursor events.Seq) opened {
	run, err := t.cfg.Timelines.Head(ctx, u)
	if err != nil {
		return opened{err: err}
	}
	t.cfg.Clock.Observe(run.Newest)
	return opened{asked: asked, run: run, found: cursor <= run.Head}
}

// unread tells that a timeline could not be read. A store that is away comes back.
func (t *table) unread(u events.User, err error) {
	level := slog.LevelWarn
	if events.Final(err) {
		level = slog.LevelError
	}
	t.cfg.Logger.Log(context.Background(), level, "timeline cannot be read", "user", u, "err", err)
}

// abandon gives up a session that has not opened.
func (t *table) abandon(s *session, f *wire.Login) {
	t.counts.denied.Add(1)
	s.say(&wire.Denied{Attempt: f.Attempt, Reason: wire.ReasonBusy, RetryAfter: uint32(retryLogin.Milliseconds())})
	t.end(s, wire.ReasonBusy)
}

// opened goes on after the store was read: the session is there, the device's
// old ones are over.
func (t *table) opened(now time.Time, s *session, f *wire.Login, cursor events.Seq, o opened) {
	if s.state != opening {
		return
	}
	if o.err != nil || t.draining {
		if o.err != nil {
			t.unread(s.owner.User, o.err)
		}
		t.abandon(s, f)
		return
	}
	dev := device{s.owner.User, s.owner.Device}
	old := t.devices[dev]
	if old != nil && old.turn > s.turn {
		s.say(&wire.Denied{Attempt: f.Attempt, Reason: wire.ReasonReplaced})
		t.end(s, wire.ReasonReplaced)
		return
	}
	s.state = open
	s.mute = !o.found
	s.journal, s.begins = t.cfg.Writer.Position()
	s.deliver.start(cursor, o)
	s.accepted(now, s.attempt.id) // before what it may say of old sessions
	t.settle(s, f.Settle)
	if old != nil {
		t.end(old, wire.ReasonReplaced)
	}
	t.devices[dev] = s
	t.due(now, s)
}

// accepted tells the client that it has a session, in answer to a Login.
func (s *session) accepted(now time.Time, attempt events.MessageID) {
	c := s.table.cfg
	f := &wire.Accepted{
		Attempt: attempt, Session: s.owner.Session, Journal: s.journal, Offset: s.begins, Store: c.Store,
		Head: s.deliver.head, First: s.deliver.first, Heartbeat: uint32(c.Heartbeat.Milliseconds()),
		MaxBody: uint32(c.MaxBody), Address: c.Address,
	}
	if !s.expires.IsZero() {
		f.Expires = uint64(max(s.expires.Sub(now).Milliseconds(), 1))
	}
	if s.channel != nil {
		cookie := c.Secret.Cookie(s.src.addr.Addr(), c.Now())
		f.Cookie = cookie[:]
		f.MaxHeartbeat = uint32(c.MaxHeartbeat.Milliseconds())
	}
	s.say(f)
}

// settle asks what of the device's old sessions stands in the log. Until all is
// answered the new session admits no sends.
func (t *table) settle(s *session, olds []wire.OldSession) {
	for _, q := range olds {
		owner := ingest.Owner{Session: q.Session, User: s.owner.User, Device: s.owner.Device}
		s.settling++
		if old := t.sessions[q.Session]; old != nil && old != s && old.owner == owner {
			old.waiting = append(old.waiting, s)
			t.end(old, wire.ReasonReplaced)
			continue
		}
		t.ask(q.Journal, question{Question: ingest.Question{Owner: owner, Journal: q.Journal, Offset: q.Offset}, asker: s})
	}
}

// answered takes in the answer for one of the old sessions.
func (s *session) answered(f *wire.Settled) {
	if s.state != open {
		return
	}
	s.settling--
	s.settled = append(s.settled, f)
	s.say(f)
}

// A question is one of settling, and the session that asks.
type question struct {
	ingest.Question
	asker *session
}

// An inquiry is the settling of one journal: all questions that come while one
// read is under way are answered by the next.
type inquiry struct {
	journal events.Journal
	waiting []question
	running bool
	again   time.Time // when to try again after a failure; zero if there was none
}

// askAgain is how long to wait after a failed settling.
const askAgain = 200 * time.Millisecond

// ask adds a question to those about its journal.
func (t *table) ask(j events.Journal, q question) {
	in := t.asking[j]
	if in == nil {
		in = &inquiry{journal: j}
		t.asking[j] = in
	}
	in.waiting = append(in.waiting, q)
	if in.again.IsZero() {
		t.inquire(in)
	}
}

// settleWithin bounds one inquiry. It has its turn again when others have had theirs.
const settleWithin = 30 * time.Second

// mostInquiries bounds those under way: while the log takes nothing none ends, and logins
// and reads of timelines have to go on.
func (t *table) mostInquiries() int { return max(t.cfg.Workers/2, 1) }

// inquire starts a read for all that wait, unless too many are under way.
func (t *table) inquire(in *inquiry) {
	if in.running || t.inquiries >= t.mostInquiries() {
		return
	}
	in.waiting = slices.DeleteFunc(in.waiting, func(q question) bool { return q.asker.state != open })
	if len(in.waiting) == 0 {
		delete(t.asking, in.journal)
		return
	}
	qs := in.waiting
	in.waiting, in.running, in.again = nil, true, time.Time{}
	t.inquiries++
	over := func(now time.Time) {
		in.running = false
		t.inquiries--
		t.retry(now)
	}
	failed := func(now time.Time) {
		in.waiting = append(qs, in.waiting...)
		in.again = now.Add(askAgain)
		over(now)
	}
	t.want(func(ctx context.Context) func(time.Time) {
		ctx, cancel := context.WithTimeout(ctx, settleWithin)
		defer cancel()
		asked := make([]ingest.Question, len(qs))
		for i, q := range qs {
			asked[i] = q.Question
		}
		answers, err := t.cfg.Settler.Settle(ctx, in.journal, asked)
		if err != nil {
			t.cfg.Logger.Warn("old sessions are not settled; trying again", "journal", in.journal, "err", err)
			return failed
		}
		return func(now time.Time) {
			for _, a := range answers {
				hand(a, qs)
			}
			over(now)
		}
	}, failed)
}

// hand gives an answer to whoever asked for it.
func hand(a ingest.Answered, qs []question) {
	for _, q := range qs {
		if q.Owner == a.Owner {
			q.asker.answered(&wire.Settled{Session: a.Session, Numbers: a.Numbers, Unknown: a.Unknown})
		}
	}
}

// retry starts the settlings that wait for their turn, and those that failed a while ago.
func (t *table) retry(now time.Time) {
	for _, j := range slices.Sorted(maps.Keys(t.asking)) {
		if in := t.asking[j]; !in.again.After(now) {
			t.inquire(in)
		}
	}
}

// retryAt returns when the next of them is due: at most at that time. While as many are under
// way as may be none is: it begins when one of those ends.
func (t *table) retryAt(most time.Time) time.Time {
	if t.inquiries >= t.mostInquiries() {
		return most
	}
	for _, in := range t.asking {
		if !in.again.IsZero() && in.again.Before(most) {
			most = in.again
		}
	}
	return most
}
